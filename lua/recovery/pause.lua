--- Pauses of the exchange: every Thursday night and now and then. Nothing in the feed says so, hence the question to
--- /exchange/status, at a slow pace and whenever connections are lost. Raises exchange_paused and exchange_back; after
--- a pause resting orders may be gone without a word, so books are asked for anew.

local tm = require "tidemill"
local common = require "recovery.common"

-- Whether it trades; nil when it does not say. 500, 503 and 504 carry the body too.
local function is_active(response)
  local ok, status = pcall(tm.json.decode, response.body)
  if not ok or type(status) ~= "table" or type(status.exchange_active) ~= "boolean" then return nil end
  return status.exchange_active and status.trading_active ~= false, status.exchange_estimated_resume_time
end

local function watch(exchange)
  local paused_at, looking
  local function look()
    if looking and tm.monotonic() - looking < 60e6 then return end
    looking = tm.monotonic()
    local active, resume = is_active(exchange.rest:get "/exchange/status")
    looking = nil
    if active == false and not paused_at then
      paused_at = tm.now()
      tm.log.warn("the exchange is paused", { resume = type(resume) == "string" and resume or "unknown" })
      tm.emit("exchange_paused", { text = "the exchange says so", resume = type(resume) == "string" and resume or nil })
    elseif active and paused_at then
      local from = paused_at
      paused_at = nil
      tm.log.info("the exchange is back", { minutes = math.floor((tm.now() - from) / 60e6) })
      tm.emit("exchange_back", { from = from, to = tm.now() })
    end
  end
  return look
end

return function(exchange, given, at)
  local settings = common.settings(at, "pause", given, {
    every = tm.check.field(tm.check.duration, { default = 15e6 }),
  })
  local look = watch(exchange)
  tm.every(("%dus"):format(settings.every or 15e6), look)
  tm.on("all_connections_down", look)
  tm.on("connections_back", look)
  tm.routine "resume" {
    on = { "exchange_back" }, priority = 3, timeout = "2m",
    subject = function() return "books" end,
    run = function(run)
      local links = 0
      common.each_link(exchange, "orderbook_delta", function(session, number, link)
        if session:sid(number) then
          links = links + 1
          tm.routine.run("resync", link.name, { link = link, sid = session:sid(number) }, { dry = run:dry() })
        end
      end)
      run:step("books are asked for anew after the pause", { connections = links })
    end,
  }
end
