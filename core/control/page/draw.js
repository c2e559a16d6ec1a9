// What the console draws with: figures as text, elements, charts over time, the timeline of gaps. Knows nothing of the
// state's members. Nothing here sets markup from text, and no style is written into markup: the page's policy forbids
// that.

const SVG = "http://www.w3.org/2000/svg";

// ---- text ----

/** Strings of the state have one \u00XX for each byte that is no printable ASCII: back to what they were. */
export function text(bytes) {
  if (!/[\x80-\xff]/.test(bytes ?? "")) return bytes ?? "";
  return new TextDecoder().decode(Uint8Array.from(bytes, (c) => c.charCodeAt(0)));
}

export function count(n) {
  if (n === null || n === undefined || Number.isNaN(n)) return "–";
  const size = Math.abs(n);
  if (size >= 1e9) return `${(n / 1e9).toFixed(size < 1e10 ? 2 : 1)} G`;
  if (size >= 1e6) return `${(n / 1e6).toFixed(size < 1e7 ? 2 : 1)} M`;
  if (size >= 1e4) return `${(n / 1e3).toFixed(size < 1e5 ? 1 : 0)} k`;
  if (size >= 1e3) return `${Math.floor(n / 1e3)}\u2009${String(Math.round(n % 1e3)).padStart(3, "0")}`;
  return size >= 10 || Number.isInteger(n) ? String(Math.round(n)) : n.toFixed(1);
}

export function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let i = 0;
  for (; n >= 1024 && i < units.length - 1; i++) n /= 1024;
  return `${n < 10 && i ? n.toFixed(1) : Math.round(n)} ${units[i]}`;
}

/** A duration given in milliseconds. */
export function span(ms) {
  if (ms === null || ms === undefined || ms < 0) return "–";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 10e3) return `${(ms / 1e3).toFixed(1)} s`;
  if (ms < 120e3) return `${Math.round(ms / 1e3)} s`;
  if (ms < 7200e3) return `${Math.round(ms / 60e3)} min`;
  if (ms < 172800e3) return `${Math.round(ms / 3600e3)} h`;
  return `${Math.round(ms / 86400e3)} d`;
}

export const clock = (ms) => new Date(ms).toISOString().slice(11, 19);

// ---- elements ----

/** el("li", { class: "row", title: "x" }, "text", child, ...) */
export function el(name, attributes = {}, ...children) {
  const e = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) e.setAttribute(key, value);
  e.append(...children);
  return e;
}

export function svg(name, attributes = {}, ...children) {
  const e = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) e.setAttribute(key, value);
  e.append(...children);
  return e;
}

export const icon = (name, kind = "icon") =>
  svg("svg", { class: kind, "aria-hidden": "true" }, svg("use", { href: `#i-${name}` }));

/** A light of no colour yet: `light` sets it, on what it stands in. */
export const lamp = (attributes = { "aria-hidden": "true" }) =>
  svg("svg", { class: "light", ...attributes }, svg("use", { href: "#i-grey" }));

/** Writes only what has changed, so that a selection and a reader's place survive the second. */
export function put(e, value) {
  const wanted = String(value);
  if (e.textContent !== wanted) e.textContent = wanted;
}

export function attribute(e, name, value) {
  if (e.getAttribute(name) !== String(value)) e.setAttribute(name, value);
}

export function light(e, colour) {
  attribute(e, "data-light", colour);
  const use = e.querySelector("svg.light use");
  if (use) attribute(use, "href", `#i-${colour}`);
}

/** Children of `parent` by key: made once, updated, put in order, taken away. */
export function keyed(parent, items, keyOf, make, update) {
  parent.items ??= new Map();
  const seen = new Set();
  let at = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    let e = parent.items.get(key);
    if (!e) parent.items.set(key, (e = make(item)));
    seen.add(key);
    update(e, item);
    if (e === at) at = at.nextElementSibling;
    else parent.insertBefore(e, at);
  }
  for (const [key, e] of parent.items)
    if (!seen.has(key)) {
      e.remove();
      parent.items.delete(key);
    }
}

// ---- figures over time ----

export const SECONDS = 600;

/** The figures of the last ten minutes, one value a second, NaN where there is none. */
export class Figures {
  constructor() {
    this.series = new Map();
    this.endMs = 0;
  }
  load(history, endMs) {
    this.series.clear();
    this.endMs = endMs;
    for (const [name, values] of Object.entries(history.figures))
      this.series.set(name, Array(Math.max(0, SECONDS - values.length)).fill(NaN)
        .concat(values.slice(-SECONDS).map((v) => v ?? NaN)));
  }
  /** The seconds that were missed stay empty. */
  push(latest, endMs) {
    const steps = Math.max(1, Math.min(SECONDS, Math.round((endMs - this.endMs) / 1000)));
    this.endMs = endMs;
    for (const name of Object.keys(latest))
      if (!this.series.has(name)) this.series.set(name, Array(SECONDS).fill(NaN));
    for (const [name, values] of this.series) {
      for (let i = 1; i < steps; i++) values.push(NaN);
      values.push(latest[name] ?? NaN);
      values.splice(0, values.length - SECONDS);
    }
  }
  get(name) {
    return this.series.get(name) ?? [];
  }
}

function niceCeiling(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  for (const step of [1, 1.5, 2, 3, 4, 5, 6, 8, 10]) if (value <= step * power) return step * power;
  return 10 * power;
}

function linePath(values, x, y) {
  let path = "", open = false;
  values.forEach((v, i) => {
    if (Number.isNaN(v)) open = false;
    else {
      path += `${open ? "L" : "M"}${x(i).toFixed(1)} ${y(v).toFixed(1)}`;
      open = true;
    }
  });
  return path;
}

/** A small line without axes. */
export function spark(e, values) {
  const shown = values.slice(-120), width = 96, height = 26;
  const top = Math.max(...shown.filter((v) => !Number.isNaN(v)), 0) * 1.1 || 1;
  const x = (i) => (i / 119) * width, y = (v) => height - 2 - (v / top) * (height - 4);
  if (!e.firstChild) {
    attribute(e, "viewBox", `0 0 ${width} ${height}`);
    e.append(svg("path", { class: "line" }));
  }
  const padded = Array(120 - shown.length).fill(NaN).concat(shown);
  attribute(e.firstChild, "d", linePath(padded, x, y));
}

/**
 * A chart of figures. `lines(state)` gives [{ figure, label, colour, area }] in order; `format` writes a value; `floor`
 * is the least upper end of its scale; `mark(state)` an optional { value, label } drawn across. The pointer, and the
 * arrow keys when it has the focus, show the values of a moment.
 */
export class Chart {
  constructor(title, options) {
    this.options = options;
    this.cursor = null; // seconds ago
    this.legend = el("ul", { class: "legend" });
    this.tip = el("output", { class: "tip", hidden: "" });
    this.area = svg("svg", { class: "plot", tabindex: "0", role: "img" });
    this.title = title;
    this.root = el("section", { class: "card chart", "aria-label": title }, el("h2", {}, title), this.legend,
      el("div", { class: "plotbox" }, this.area, this.tip));
    this.area.addEventListener("pointermove", (e) => this.point(e));
    this.area.addEventListener("pointerleave", () => this.move(null));
    this.area.addEventListener("blur", () => this.move(null));
    this.area.addEventListener("keydown", (e) => this.key(e));
    new ResizeObserver(() => this.draw()).observe(this.area);
  }
  point(e) {
    const box = this.area.getBoundingClientRect();
    const share = (e.clientX - box.left - this.left) / Math.max(1, box.width - this.left - 6);
    this.move(Math.round((1 - share) * (SECONDS - 1)));
  }
  key(e) {
    const steps = { ArrowLeft: 5, ArrowRight: -5, PageUp: 60, PageDown: -60 };
    if (e.key in steps) this.move((this.cursor ?? 0) + steps[e.key]);
    else if (e.key === "Home") this.move(SECONDS - 1);
    else if (e.key === "End") this.move(0);
    else if (e.key === "Escape") this.move(null);
    else return;
    e.preventDefault();
  }
  move(ago) {
    this.cursor = ago === null ? null : Math.max(0, Math.min(SECONDS - 1, ago));
    this.draw();
  }
  update(state, figures) {
    this.state = state;
    this.figures = figures;
    this.draw();
  }
  draw() {
    const width = this.area.clientWidth, height = this.area.clientHeight;
    if (!this.state || !width) return;
    const lines = this.options.lines(this.state).map((l) => ({ ...l, values: this.figures.get(l.figure) }));
    const mark = this.options.mark?.(this.state);
    const peak = Math.max(this.options.floor, mark?.value ?? 0,
      ...lines.flatMap((l) => l.values.filter((v) => !Number.isNaN(v))));
    const top = niceCeiling(peak * 1.04);
    this.left = 46;
    const x = (i) => this.left + (i / (SECONDS - 1)) * (width - this.left - 6);
    const y = (v) => height - 20 - (v / top) * (height - 30);
    this.area.replaceChildren(...this.grid(width, height, top, x, y), ...this.mark(mark, width, y),
      ...lines.flatMap((l) => this.line(l, x, y)), ...this.crosshair(lines, height, x, y));
    attribute(this.area, "viewBox", `0 0 ${width} ${height}`);
    this.tell(lines);
  }
  grid(width, height, top, x, y) {
    const format = this.options.format, parts = [];
    for (const share of [0, 0.5, 1]) {
      parts.push(svg("line", { class: share ? "grid" : "axis", x1: this.left, x2: width - 6, y1: y(top * share),
        y2: y(top * share) }));
      parts.push(svg("text", { class: "tick", x: this.left - 7, y: y(top * share) + 4, "text-anchor": "end" },
        format(top * share)));
    }
    for (const minutes of width < 420 ? [10, 5, 0] : [10, 8, 6, 4, 2, 0])
      parts.push(svg("text", { class: "tick", x: x(SECONDS - 1 - Math.min(minutes * 60, SECONDS - 1)), y: height - 4,
        "text-anchor": minutes ? (minutes === 10 ? "start" : "middle") : "end" }, minutes ? `${minutes} min` : "now"));
    return parts;
  }
  mark(mark, width, y) {
    if (!mark) return [];
    return [svg("line", { class: "mark", x1: this.left, x2: width - 6, y1: y(mark.value), y2: y(mark.value) }),
      svg("text", { class: "marktext", x: width - 8, y: y(mark.value) - 5, "text-anchor": "end" }, mark.label)];
  }
  line(l, x, y) {
    const path = linePath(l.values, x, y), parts = [];
    if (l.area && path) {
      const pieces = path.split("M").slice(1).map((piece) => {
        const points = piece.split("L"), first = points[0].split(" ")[0], last = points.at(-1).split(" ")[0];
        return `M${first} ${y(0).toFixed(1)}L${points.join("L")}L${last} ${y(0).toFixed(1)}Z`;
      });
      parts.push(svg("path", { class: `area ${l.colour}`, d: pieces.join("") }));
    }
    parts.push(svg("path", { class: `line ${l.colour}`, d: path }));
    return parts;
  }
  crosshair(lines, height, x, y) {
    if (this.cursor === null) return [];
    const i = SECONDS - 1 - this.cursor;
    const parts = [svg("line", { class: "cross", x1: x(i), x2: x(i), y1: 6, y2: height - 20 })];
    for (const l of lines)
      if (!Number.isNaN(l.values[i] ?? NaN))
        parts.push(svg("circle", { class: `point ${l.colour}`, cx: x(i), cy: y(l.values[i]), r: 3.5 }));
    const share = i / (SECONDS - 1);
    this.tip.hidden = false;
    this.tip.style.setProperty("left", share < 0.5 ? `${x(i) + 10}px` : "auto");
    this.tip.style.setProperty("right", share < 0.5 ? "auto" : `${this.area.clientWidth - x(i) + 10}px`);
    return parts;
  }
  tell(lines) {
    const at = (values) => values[SECONDS - 1 - (this.cursor ?? 0)] ?? NaN;
    const say = (v) => (Number.isNaN(v) ? "–" : this.options.format(v));
    keyed(this.legend, lines, (l) => l.figure,
      (l) => el("li", {}, el("i", { class: `swatch ${l.colour}` }), el("span"), el("b")),
      (e, l) => {
        put(e.children[1], l.label);
        put(e.children[2], say(l.values.at(-1) ?? NaN));
      });
    const now = lines.map((l) => `${l.label} ${say(l.values.at(-1) ?? NaN)}`).join(", ");
    attribute(this.area, "aria-label", `${this.title}, last ten minutes. Now ${now}`);
    this.tip.hidden = this.cursor === null;
    if (this.cursor !== null)
      this.tip.replaceChildren(el("b", {}, clock(this.figures.endMs - this.cursor * 1000)),
        ...lines.map((l) => el("span", {}, el("i", { class: `swatch ${l.colour}` }),
          `${l.label} ${say(at(l.values))}`)));
  }
}

// ---- the timeline of gaps ----

const WINDOW_MS = 3600e3;

/** Where all lanes have one at the same time, as [from, to] pairs. */
export function together(lanes, nowMs) {
  let common = null;
  for (const lane of lanes) {
    const own = lane.map((g) => [g.from_ms, g.to_ms || nowMs]).sort((a, b) => a[0] - b[0]);
    common = common === null ? own : common.flatMap(([a, b]) =>
      own.map(([c, d]) => [Math.max(a, c), Math.min(b, d)]).filter(([f, t]) => t > f));
  }
  return common ?? [];
}

/** Rows of [{ lane, label, gaps: [{ reason, from_ms, to_ms, title }] }] over the last hour. */
export class Timeline {
  constructor(root) {
    this.root = root;
    this.body = el("div", { class: "lanes" });
    this.axis = el("div", { class: "laneaxis", "aria-hidden": "true" },
      ...[60, 45, 30, 15, 0].map((m) => el("span", {}, m ? `${m} min` : "now")));
    this.legend = el("ul", { class: "legend" });
    root.append(this.body, this.axis, this.legend);
  }
  update(rows, nowMs) {
    keyed(this.body, rows, (r) => r.lane,
      () => el("div", { class: "lane" }, el("span", { class: "lanename" }),
        el("div", { class: "track", role: "list" })),
      (e, r) => {
        put(e.firstChild, r.label);
        e.classList.toggle("all", r.lane === "*");
        this.track(e.lastChild, r, nowMs);
      });
  }
  /** Which colour is which reason, of those that are there. */
  explain(rows, words) {
    const reasons = [...new Set(rows.flatMap((r) => r.gaps.map((g) => g.reason)))].filter((r) => r !== "all").sort();
    keyed(this.legend, reasons, (r) => r,
      (r) => el("li", {}, el("i", { class: "gapswatch", "data-reason": r }), words[r] ?? r), () => {});
  }
  track(track, row, nowMs) {
    const shown = row.gaps.filter((g) => (g.to_ms || nowMs) > nowMs - WINDOW_MS);
    keyed(track, shown, (g) => `${g.reason}/${g.from_ms}`,
      (g) => el("button", { type: "button", class: "gap", role: "listitem" }, el("span", { class: "gaptip" })),
      (e, g) => {
        const at = (ms) => Math.max(0, 1 - (nowMs - ms) / WINDOW_MS), from = at(g.from_ms), to = at(g.to_ms || nowMs);
        e.style.setProperty("left", `${(from * 100).toFixed(3)}%`);
        e.style.setProperty("width", `max(4px, ${((to - from) * 100).toFixed(3)}%)`);
        attribute(e, "data-reason", g.reason);
        attribute(e, "data-edge", from > 0.6 ? "right" : "left");
        e.classList.toggle("open", !g.to_ms);
        attribute(e, "aria-label", `${row.label}: ${g.title}`);
        put(e.firstChild, g.title);
      });
  }
}
