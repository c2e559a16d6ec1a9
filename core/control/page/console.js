// The console: the state of a Tidemill process (GET /state), told each second over /live, as a page. Read only.

import { Chart, Figures, Timeline, attribute, bytes, clock, count, el, icon, keyed, lamp, light, put, span, spark, svg,
  text, together } from "/draw.js";

const $ = (id) => document.getElementById(id);
const figures = new Figures();
const COLOURS = ["c1", "c2", "c3", "c4", "c5", "c6"];
const seconds = (s) => span(s * 1000);
let state = null, heardAt = 0;

// ---- top ----

const WORDS = { healthy: "Healthy", degraded: "Degraded", unhealthy: "Unhealthy" };
const LIGHTS = { healthy: "green", degraded: "amber", unhealthy: "red" };

/** The worst of what is shown: health is about what this process may do, and says nothing of a silent gatherer. What is
    for information, as a watchdog that always fires, is no trouble. */
function verdict(s) {
  const firing = s.alerts?.filter((a) => a.state === "firing" && a.severity !== "info") ?? [];
  const sick = (s.gatherers ?? []).filter((g) => g.light === "red");
  if (s.health.status !== "healthy") return [LIGHTS[s.health.status], WORDS[s.health.status], text(s.health.reason)];
  if (firing.some((a) => a.severity === "critical")) return ["red", "Alarm", `${firing.length} firing`];
  if (sick.length) return ["amber", "Degraded", `${sick.map((g) => g.id).join(", ")}: ${text(sick[0].why)}`];
  if (firing.length) return ["amber", "Warning", firing.map((a) => a.name).join(", ")];
  return ["green", s.lease?.state === "standby" ? "Standing by" : "Healthy", ""];
}

function showTop(s) {
  const [colour, word, why] = verdict(s);
  put($("who-id"), s.id);
  put($("who-role"), s.role);
  light($("verdict"), colour);
  put($("verdict-word"), word);
  put($("verdict-why"), why);
  put($("clock"), clock(s.at_ms));
  const marks = { green: "✓", amber: "!", red: "✗", grey: "–" };
  document.title = `${marks[colour]} ${s.id} · Tidemill`;
  const stuck = s.health.policy === "stuck";
  banner("stuck", stuck, `The policy thread has not turned for ${span(s.policy_age_ms)}: ` +
    "alerts, recovery and script are shown as they were then. The feed goes on.");
}

const banners = new Map();
function banner(name, shown, words) {
  if (shown) banners.set(name, words);
  else banners.delete(name);
  $("banner").hidden = banners.size === 0;
  put($("banner"), [...banners.values()].join(" "));
}

// ---- figures ----

function figuresOf(s) {
  if (s.role === "gatherer") {
    const j = s.journal;
    return [
      ["rows", "Received", count(s.feed.rows_per_s), "rows/s", s.feed.light === "red" ? "red" : "grey", "rows"],
      ["stored", "Stored", count(s.store.rows_per_s), "rows/s", "grey", "stored"],
      ["lag", "Store lag", span(s.store.lag_ms), "", s.store.light, "lag_s"],
      ["links", "Connections", `${s.feed.links_up}`, `of ${s.feed.links}`, s.feed.light],
      ["journal", "Journal", bytes(j.disk_bytes), `of ${bytes(j.disk_bytes_max)}`, j.light],
      ["seen", "Keys remembered", count(s.seen.keys), bytes(s.seen.bytes), "grey"],
    ];
  }
  const n = s.gatherers.length;
  const copiesLight = s.copies === null ? "grey" : s.copies >= n - 0.3 ? "green" : s.copies >= 1.7 ? "amber" : "red";
  const up = s.gatherers.filter((g) => g.light === "green").length;
  return [
    ["gatherers", "Gatherers", String(up), `of ${n} heard`, up === n ? "green" : up ? "amber" : "red"],
    ["copies", "Copies of a record", s.copies?.toFixed(2) ?? "–", `of ${n}`, copiesLight, "copies"],
    ["lag", "Sync lag", span(s.production.lag_ms), "", lagLight(s.production.lag_ms), "lag_s"],
    ["written", "Written", count(s.production.rows_per_s), "rows/s", s.production.light, "written"],
    ["latency", "Arrival to COMMIT", s.merger.latency_ms ? span(s.merger.latency_ms) : "–", "", "grey"],
    ["behind", "Rows behind", count(s.catch_up.rows_behind),
      s.catch_up.left_s ? `${span(s.catch_up.left_s * 1000)} left` : "", "grey"],
  ];
}

const lagLight = (ms) => (ms > 300e3 ? "red" : ms > 30e3 ? "amber" : "green");

function showFigures(s) {
  keyed($("figures"), figuresOf(s), (f) => f[0],
    () => el("div", { class: "figure" }, el("span", { class: "label" }), el("b"), el("small"),
      svg("svg", { class: "spark", preserveAspectRatio: "none", "aria-hidden": "true" })),
    (e, [, label, value, unit, colour, figure]) => {
      put(e.children[0], label);
      put(e.children[1], value);
      put(e.children[2], unit);
      attribute(e, "data-light", colour);
      if (figure) spark(e.children[3], figures.get(figure));
    });
}

// ---- topology ----

/** [{ id, kind, name, light, figure, unit, note, column, row, rows }] and [[from, to, light, flows]]. */
function topologyOf(s) {
  return s.role === "gatherer" ? seat(s) : fleet(s);
}

function seat(s) {
  const dead = s.feed.links_up === 0;
  return {
    nodes: [
      { id: "x", kind: "exchange", name: "exchange", light: s.feed.light, figure: `${s.feed.links_up}/${s.feed.links}`,
        unit: "connections", column: 1,
        note: text(s.feed.why) || `last message ${span(s.feed.last_message_age_ms)} ago` },
      { id: "g", kind: "gatherer", name: s.id, light: dead ? "red" : LIGHTS[s.health.status],
        figure: count(s.feed.rows_per_s), unit: "rows/s", note: text(s.health.reason) ||
          `${count(s.feed.duplicates_per_s)} duplicates/s dropped`, column: 2 },
      { id: "j", kind: "journal", name: "journal", light: s.journal.light, figure: count(s.journal.rows_per_s),
        unit: "rows/s durable", note: text(s.journal.why) ||
          `durable ${span(s.journal.last_durable_age_ms)} ago`, column: 3 },
      { id: "s", kind: "store", name: "local store", light: s.store.light, figure: count(s.store.rows_per_s),
        unit: "rows/s", note: text(s.store.why) || `${bytes(s.store.bytes)}, lag ${span(s.store.lag_ms)}`, column: 4 },
    ],
    edges: [["x", "g", s.feed.light, s.feed.rows_per_s > 0], ["g", "j", s.journal.light, s.journal.rows_per_s > 0],
      ["j", "s", s.store.light, s.store.rows_per_s > 0]],
    columns: 4,
  };
}

const sayWord = { connected: "store read", connecting: "connecting", disconnected: "store away", stopped: "stopped" };

function fleet(s) {
  const nodes = [], edges = [], n = s.gatherers.length;
  nodes.push({ id: "x", kind: "exchange", name: "exchange", light: s.exchange.light, column: 1, row: 1, rows: n,
    figure: `${s.exchange.heard_by}/${n}`, unit: "hear it", note: text(s.exchange.why) });
  s.gatherers.forEach((g, i) => {
    const moves = g.rows_per_s > 0;
    nodes.push({ id: `g:${g.id}`, kind: "gatherer", name: g.id, light: g.light, column: 2, row: i + 1,
      figure: count(g.rows_per_s), unit: "rows/s",
      note: text(g.why) || `newest row ${span(g.age_ms)} old, first with ${Math.round(g.first_share * 100)} %` });
    nodes.push({ id: `s:${g.id}`, kind: "store", name: `store ${g.id}`, light: g.store_light,
      figure: count(g.behind), unit: "rows waiting", note: sayWord[g.state] ?? g.state, column: 3, row: i + 1 });
    edges.push(["x", `g:${g.id}`, g.light === "red" ? "red" : s.exchange.light === "red" ? "red" : g.light, moves],
      [`g:${g.id}`, `s:${g.id}`, g.light, moves], [`s:${g.id}`, "d", g.store_light === "red" ? "red" : g.light, moves]);
  });
  nodes.push({ id: "d", kind: "deduplicator", name: s.id, light: s.merger.light, figure: count(s.merger.rows_per_s),
    unit: "rows/s in", note: text(s.merger.why) || `lease ${s.lease.state}`, column: 4, row: 1, rows: n });
  nodes.push({ id: "p", kind: "production", name: "production", light: s.production.light,
    figure: count(s.production.rows_per_s), unit: "rows/s written", note: text(s.production.why) ||
      `lag ${span(s.production.lag_ms)}`, column: 5, row: 1, rows: n });
  edges.push(["d", "p", s.production.light === "red" ? "red" : s.merger.light, s.production.rows_per_s > 0]);
  return { nodes, edges, columns: 5 };
}

const LIGHT_WORDS = { green: "fine", amber: "look at it", red: "not working", grey: "not known" };
let edgesShown = [];

function showTopology(s) {
  const { nodes, edges, columns } = topologyOf(s);
  const topo = $("topo");
  attribute(topo, "data-columns", columns);
  topo.holder ??= topo.appendChild(el("div", { class: "nodes" }));
  keyed(topo.holder, nodes, (n) => n.id,
    (n) => {
      const e = el("article", { class: `node ${n.kind}` },
        el("header", {}, icon(n.kind), el("strong"), lamp({ role: "img" })),
        el("p", { class: "rate" }, el("b"), " ", el("small")), el("p", { class: "nodenote" }));
      e.style.setProperty("--column", n.column);
      e.style.setProperty("--row", n.row ?? 1);
      e.style.setProperty("--rows", n.rows ?? 1);
      return e;
    },
    (e, n) => {
      light(e, n.light);
      attribute(e, "data-node", n.id);
      attribute(e.querySelector("svg.light"), "aria-label", LIGHT_WORDS[n.light]);
      put(e.querySelector("strong"), n.name);
      put(e.querySelector(".rate b"), n.figure);
      put(e.querySelector(".rate small"), n.unit);
      put(e.querySelector(".nodenote"), n.note || " ");
      e.style.setProperty("--rows", n.rows ?? 1);
    });
  edgesShown = edges;
  drawEdges();
}

/** From the right middle of one node to the left middle of the next, or straight down where they are stacked. */
function drawEdges() {
  const box = $("topo").getBoundingClientRect();
  const at = (id) => {
    const r = $("topo").holder.items.get(id).getBoundingClientRect();
    return { l: r.left - box.left, r: r.right - box.left, t: r.top - box.top, b: r.bottom - box.top,
      x: (r.left + r.right) / 2 - box.left, y: (r.top + r.bottom) / 2 - box.top };
  };
  attribute($("edges"), "viewBox", `0 0 ${box.width} ${box.height}`);
  keyed($("edges"), edgesShown, (e) => `${e[0]}>${e[1]}`, () => svg("path"), (path, [from, to, colour, flows]) => {
    const a = at(from), b = at(to);
    let d;
    if (b.l >= a.r) {
      const mid = (b.l - a.r) / 2;
      d = `M${a.r} ${a.y}C${a.r + mid} ${a.y} ${b.l - mid} ${b.y} ${b.l} ${b.y}`;
    } else { // stacked: one straight line down, behind what stands between
      const x = a.r - a.l > b.r - b.l ? b.x : a.x;
      d = `M${x} ${a.b}V${b.t}`;
    }
    attribute(path, "d", d);
    attribute(path, "data-light", colour);
    path.classList.toggle("flows", flows && colour !== "red");
  });
}

// ---- charts ----

const rows = (n) => count(n);
const CHARTS = {
  deduplicator: [
    new Chart("Rows a second", { floor: 10, format: rows, lines: (s) => [
      ...s.gatherers.slice(0, 6).map((g, i) => ({ figure: `rows:${g.id}`, label: `from ${g.id}`, colour: COLOURS[i] })),
      { figure: "written", label: "written", colour: "main", area: true }] }),
    new Chart("Sync lag", { floor: 1, format: seconds, lines: () => [
      { figure: "lag_s", label: "lag", colour: "main", area: true }] }),
    new Chart("Copies of a record", { floor: 1, format: (v) => v.toFixed(v % 1 ? 2 : 0), lines: () => [
      { figure: "copies", label: "copies", colour: "main", area: true }],
      mark: (s) => ({ value: s.gatherers.length, label: `${s.gatherers.length} gatherers` }) }),
  ],
  gatherer: [
    new Chart("Rows a second", { floor: 10, format: rows, lines: () => [
      { figure: "rows", label: "received", colour: "main", area: true },
      { figure: "stored", label: "stored", colour: "c2" }] }),
    new Chart("Store lag", { floor: 1, format: seconds, lines: () => [
      { figure: "lag_s", label: "lag", colour: "main", area: true }] }),
  ],
};

function showCharts(s) {
  const charts = CHARTS[s.role];
  if (!$("charts").firstChild) $("charts").append(...charts.map((c) => c.root));
  attribute($("charts"), "data-count", charts.length);
  for (const c of charts) c.update(s, figures);
}

// ---- connections ----

function showLinks(s) {
  $("s-links").hidden = !s.links;
  if (!s.links) return;
  put($("links-count"), `${s.feed.links_up} of ${s.feed.links} up`);
  const kinds = new Map();
  for (const l of s.links) {
    const [kind, number] = text(l.name).split("/");
    if (!kinds.has(kind)) kinds.set(kind, []);
    kinds.get(kind).push({ ...l, number: number ?? "" });
  }
  const groups = [...kinds].map(([kind, links]) => ({ kind, links })).sort((a, b) => a.kind.localeCompare(b.kind));
  keyed($("links"), groups, (g) => g.kind,
    () => el("li", { class: "kind" }, el("span", {}, el("strong"), " ", el("small")), el("ul", { class: "cells" })),
    (e, g) => {
      put(e.querySelector("strong"), g.kind);
      put(e.querySelector("small"), `${count(g.links.reduce((sum, l) => sum + l.messages_per_s, 0))} messages/s`);
      keyed(e.querySelector("ul"), g.links.sort((a, b) => Number(a.number) - Number(b.number)), (l) => l.name,
        () => el("li", { class: "cell" }), showLink);
    });
  const down = s.links.filter((l) => l.state !== "up");
  const more = s.feed.links - s.links.length;
  put($("links-note"), down.slice(0, 8).map(linkWords).join(" · ") + (more > 0 ? ` ${more} more are not shown.` : ""));
}

const linkWords = (l) => `${text(l.name)} ${l.state}, last message ${l.age_ms < 0 ? "never" : `${span(l.age_ms)} ago`}`;

function showLink(e, l) {
  light(e, l.light);
  put(e, l.number || "•");
  attribute(e, "title",
    `${linkWords(l)}, ${count(l.messages_per_s)} messages/s, ${count(l.rows)} rows, ${l.gaps} gaps`);
}

// ---- gaps ----

let timeline;

const REASONS = { start: "before the first subscription", stopped: "the process was away", unheard: "not heard of now",
  sequence: "numbers are missing", "journal full": "the journal took no rows" };

function laneRows(s) {
  const own = (lane) => s.gaps.filter((g) => text(g.lane) === lane).map((g) => ({ ...g, title: gapTitle(g) }));
  if (s.role === "gatherer") {
    const kinds = s.links.map((l) => text(l.name).split("/")[0]), gone = s.gaps.map((g) => text(g.lane));
    return [...new Set(kinds.concat(gone))].sort().map((lane) => ({ lane, label: lane || "all", gaps: own(lane) }));
  }
  const lanes = s.gatherers.map((g) => {
    const gaps = own(g.id);
    if (g.light === "red" && g.age_ms > 0)
      gaps.push({ reason: "unheard", from_ms: Math.round((s.at_ms - g.age_ms) / 1000) * 1000, to_ms: 0,
        title: `not heard of for ${span(g.age_ms)}` });
    return { lane: g.id, label: g.id, gaps };
  });
  const all = together(lanes.map((l) => l.gaps.filter((g) => g.reason !== "start")), s.at_ms);
  lanes.push({ lane: "*", label: "all at once", gaps: all.map(([from_ms, to_ms]) => ({ reason: "all", from_ms, to_ms,
    title: `every gatherer missed something, ${clock(from_ms)} for ${span(to_ms - from_ms)}` })) });
  return lanes;
}

function gapTitle(g) {
  const what = g.records ? `, ${count(g.records)} records` : g.gaps > 1 ? `, ${g.gaps} gaps` : "";
  const when = g.from_ms < 1e12 ? "since it is not known when" : clock(g.from_ms);
  return `${text(g.reason)} ${when}${g.to_ms ? `, for ${span(g.to_ms - g.from_ms)}` : ", not over"}${what}`;
}

function showGaps(s) {
  timeline ??= new Timeline($("gaps"));
  const lanes = laneRows(s), open = s.gaps.filter((g) => !g.to_ms).length;
  timeline.update(lanes, s.at_ms);
  timeline.explain(lanes, REASONS);
  put($("gaps-count"), `${s.gaps.length} in the last hour${open ? `, ${open} not over` : ""}`);
}

// ---- alerts, recovery, script ----

const ALERT_ORDER = { firing: 0, pending: 1, resolved: 2, inactive: 3 };
const SEVERITY_LIGHTS = { critical: "red", warning: "amber", info: "green" };
const alertLight = (a) => (a.state === "firing" ? SEVERITY_LIGHTS[a.severity]
  : a.state === "pending" ? "amber" : a.state === "resolved" ? "green" : "grey");

function showAlerts(s) {
  const alerts = [...(s.alerts ?? [])].sort((a, b) => ALERT_ORDER[a.state] - ALERT_ORDER[b.state]);
  const firing = alerts.filter((a) => a.state === "firing").length;
  const quiet = alerts.filter((a) => a.state === "inactive");
  put($("alerts-count"), firing ? `${firing} firing` : alerts.length ? "none firing" : "");
  const shown = alerts.filter((a) => a.state !== "inactive");
  const items = shown.concat(quiet.length ? [{ name: `${quiet.length} quiet`, state: "inactive", quiet }] : []);
  if (!alerts.length) items.push({ name: "The script declares none", state: "inactive", quiet: [] });
  keyed($("alerts"), items, (a) => (a.quiet ? "quiet" : a.name),
    () => el("li", {}, lamp(),
      el("div", { class: "grow" }, el("strong"), el("p")), el("span", { class: "chip" })),
    (e, a) => {
      light(e, alertLight(a));
      put(e.querySelector("strong"), text(a.name));
      put(e.querySelector("p"), a.quiet ? a.quiet.map((q) => text(q.name)).join(", ") : text(a.summary));
      const since = a.since_ms ? ` ${span(s.at_ms - a.since_ms)}` : "";
      put(e.querySelector(".chip"), a.quiet ? "" : `${a.severity} ${a.state}${since}`);
    });
}

const RUN_LIGHTS = { running: "amber", waiting: "grey", done: "green", failed: "red", timeout: "red" };

function runTimes(r, nowMs) {
  if (!r.started) return `waiting for ${span(nowMs - r.queued / 1000)}`;
  const end = r.ended ? r.ended / 1000 : nowMs;
  return `${clock(r.started / 1000)}, ${r.ended ? "took" : "for"} ${span(end - r.started / 1000)}`;
}

function makeRun() {
  return el("li", {}, lamp(),
    el("details", { class: "grow" }, el("summary", {}, el("strong"), " ", el("span", { class: "subject" }), el("p"),
      el("span", { class: "steps" })), el("ol")),
    el("span", { class: "chip" }));
}

function showRecovery(s) {
  const r = s.recovery ?? { running: [], waiting: [], recent: [] };
  const runs = [...r.running, ...r.waiting, ...[...r.recent].reverse()].slice(0, 30);
  const busy = r.running.length + r.waiting.length;
  put($("recovery-count"), busy ? `${r.running.length} running, ${r.waiting.length} waiting` : "");
  if (!runs.length) runs.push({ id: 0, routine: "Nothing had to be recovered", subject: "", state: "", steps: [] });
  keyed($("recovery"), runs, (x) => x.id, makeRun, (e, x) => {
    light(e, RUN_LIGHTS[x.state] ?? "grey");
    put(e.querySelector("strong"), text(x.routine));
    put(e.querySelector(".subject"), text(x.subject));
    const error = x.error ? `: ${text(x.error)}` : "", dry = x.dry ? ", dry run" : "";
    put(e.querySelector("p"), x.id ? `${text(x.event)}${dry}, ${runTimes(x, s.at_ms)}${error}` : "");
    put(e.querySelector(".steps"), x.steps.length ? `${x.step_count} step${x.step_count > 1 ? "s" : ""}` : "");
    put(e.querySelector(".chip"), x.state);
    keyed(e.querySelector("ol"), x.steps, (t) => `${t.at}${t.text}`,
      (t) => el("li", {}, el("time", {}, clock(t.at / 1000)), " ", text(t.text)), () => {});
    e.querySelector("details").classList.toggle("empty", !x.steps.length);
  });
}

function showScript(s) {
  const p = s.policy, bad = (s.callbacks ?? []).filter((c) => c.disabled || c.failures_in_a_row);
  const box = $("script");
  const names = ["file", "generation", "reload", "memory", "result"];
  const path = text(s.script).split("/");
  const facts = {
    file: ["File", path.slice(-3).join("/")],
    generation: ["Generation", p ? `${p.generation}${p.draining ? `, ${p.draining} older draining` : ""}` : "–"],
    reload: ["Last reload", p?.last_reload
      ? `${p.last_reload.replace("T", " ").replace("Z", " UTC")}, ${p.last_duration_ms} ms` : "none since the start"],
    memory: ["Memory", s.limits ? `${bytes(s.script_bytes)} of ${bytes(s.limits.memory_bytes)}` : "–"],
    result: ["Reloads", p ? `${p.reloads} taken, ${p.reloads_failed} rejected` : "–"],
  };
  box.list ??= box.appendChild(el("dl"));
  keyed(box.list, names, (n) => n, () => el("div", {}, el("dt"), el("dd")), (e, n) => {
    put(e.firstChild, facts[n][0]);
    put(e.lastChild, facts[n][1]);
  });
  attribute(box.list, "title", text(s.script));
  const notes = [];
  if (p?.last_result === "failure") notes.push(["red", "The last reload was rejected", text(p.last_error)]);
  for (const c of bad) {
    const how = c.disabled ? "is disabled" : `failed ${c.failures_in_a_row} times`;
    notes.push([c.disabled ? "red" : "amber", `${text(c.name)} ${how}`, text(c.last_error)]);
  }
  box.notes ??= box.appendChild(el("ul", { class: "rows" }));
  keyed(box.notes, notes, (n) => n[1],
    () => el("li", {}, lamp(),
      el("div", { class: "grow" }, el("strong"), el("pre"))),
    (e, n) => {
      light(e, n[0]);
      put(e.querySelector("strong"), n[1]);
      put(e.querySelector("pre"), n[2]);
    });
}

// ---- streams ----

function columnsOf(s) {
  return s.role === "gatherer"
    ? [["Stream", (t) => text(t.name)], ["rows/s", (t) => count(t.per_s)],
      ["received", (t) => count(t.received)], ["stored", (t) => count(t.stored)],
      ["duplicate", (t) => count(t.duplicate)], ["pending", (t) => count(t.pending)]]
    : [["Stream", (t) => text(t.name)], ["written/s", (t) => count(t.per_s)],
      ["copies", (t) => (t.copies === null ? (t.shared ? "–" : "each its own") : t.copies.toFixed(2))],
      ["read", (t) => count(t.polled)], ["written", (t) => count(t.written)], ["duplicate", (t) => count(t.duplicate)],
      ["quarantined", (t) => count(t.quarantined)]];
}

function showStreams(s) {
  const columns = columnsOf(s), [head, body] = $("streams").children;
  if (!head.firstChild) head.append(el("tr", {}, ...columns.map(([name]) => el("th", { scope: "col" }, name))));
  keyed(body, s.streams, (t) => t.name,
    () => el("tr", {}, ...columns.map((_, i) => el(i ? "td" : "th", i ? {} : { scope: "row" }))),
    (e, t) => columns.forEach(([, value], i) => put(e.children[i], value(t))));
}

// ---- the whole ----

function show(s) {
  showTop(s);
  showFigures(s);
  showTopology(s);
  showCharts(s);
  showLinks(s);
  showGaps(s);
  showAlerts(s);
  showRecovery(s);
  showScript(s);
  showStreams(s);
  const p = s.process;
  put($("footer"), [`tidemill ${s.version}`, `up ${span(p.uptime_s * 1000)}`, `${bytes(p.resident_bytes)} in memory`,
    `${p.open_fds} files`, `${p.cpu_s.toFixed(0)} s of CPU`].join(" · "));
}

function take(message) {
  const s = JSON.parse(message);
  if (s.history) figures.load(s.history, s.at_ms);
  else figures.push(s.figures, s.at_ms);
  state = s;
  heardAt = performance.now();
  attribute(document.body, "data-live", "yes");
  banner("away", false);
  show(s);
  $("pulse").classList.toggle("beat");
}

let wait = 500;

function connect() {
  const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/live`);
  socket.onmessage = (e) => {
    wait = 500;
    take(e.data);
  };
  socket.onclose = () => {
    setTimeout(connect, wait);
    wait = Math.min(wait * 2, 4000);
  };
}

/** What is shown is old: say so, and take its colours away. */
setInterval(() => {
  const ageMs = performance.now() - heardAt;
  if (ageMs < 3500) return;
  attribute(document.body, "data-live", "no");
  banner("away", true, state
    ? `Nothing came from the process for ${span(ageMs)}; this is as of ${clock(state.at_ms)} UTC. Trying again.`
    : "The process does not answer yet. Trying again.");
}, 1000);

// ---- colours and keys ----

const THEMES = ["auto", "light", "dark"];
let theme = "auto";
try {
  theme = localStorage.getItem("theme") ?? "auto";
} catch { /* private windows may forbid it */ }

function setTheme(name) {
  theme = THEMES.includes(name) ? name : "auto";
  document.documentElement.dataset.theme = theme;
  const said = { auto: "as the system says", light: "light", dark: "dark" }[theme];
  attribute($("theme"), "aria-label", `Colours: ${said}`);
  try {
    localStorage.setItem("theme", theme);
  } catch { /* likewise */ }
}

const nextTheme = () => setTheme(THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length]);
$("theme").addEventListener("click", nextTheme);
document.addEventListener("keydown", (e) => {
  if (e.ctrlKey || e.metaKey || e.altKey) return;
  if (e.key === "t") nextTheme();
  const parts = "main > section:not([hidden]), #charts > section, .columns > section";
  const sections = [...document.querySelectorAll(parts)];
  if (e.key !== "j" && e.key !== "k") return;
  const now = sections.findIndex((x) => x.contains(document.activeElement));
  const next = sections[Math.max(0, Math.min(sections.length - 1, now + (e.key === "j" ? 1 : -1)))];
  next.tabIndex = -1;
  next.focus();
  next.scrollIntoView({ block: "nearest" });
});

setTheme(theme);
new ResizeObserver(drawEdgesLater).observe($("topo"));
function drawEdgesLater() {
  if (state) drawEdges();
}
connect();
