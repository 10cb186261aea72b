"use strict";
// What comes from a run is only ever set as text: nothing of it is markup.
const $ = (id) => document.getElementById(id);
const NS = "http://www.w3.org/2000/svg", COLOURS = 7, ROWS = 50;
const state = { data: null, tables: [], shift: 0, chosen: null, order: null, down: false, rows: ROWS, over: false };

function make(tag, props = {}, ...inside) {
  const element = Object.assign(document.createElement(tag), props);
  element.append(...inside);
  return element;
}
function draw(tag, attributes, text) {
  const element = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}
const colour = (index) => `var(--c${index % COLOURS})`;
const whole = (value) => value.toLocaleString("en").replaceAll(",", "\u202f");

// --- numbers, as hansa.report.units writes them
function number(value) {
  if (Number.isInteger(value) && Math.abs(value) < 1e7) return whole(value);
  return String(Number(value.toPrecision(4)));
}
function scaled(value, symbol) {
  const digits = value ? Math.max(0, 2 - Math.floor(Math.log10(Math.max(Math.abs(value), 1)))) : 0;
  return `${value.toFixed(digits)} ${symbol}`;
}
function quantity(value, dimension) {
  if (value === null || value === undefined) return "–";
  if (dimension === "share") return `${(100 * value).toFixed(2)} %`;
  const size = Math.abs(value);
  if (dimension === "B" || dimension === "J")
    for (const [unit, prefix] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]])
      if (size >= unit) return scaled(value / unit, prefix + dimension);
  if (dimension === "B" || dimension === "J") return `${Number(value.toPrecision(3))} ${dimension}`;
  if (dimension === "s") {
    for (const [unit, name] of [[86400, "d"], [3600, "h"], [60, "min"]])
      if (size >= 2 * unit) return scaled(value / unit, name);
    return size && size < 1 ? scaled(value * 1000, "ms") : scaled(value, "s");
  }
  return number(value);
}
function axis(value, dimension, top, step) {  // a tick, in the unit of the highest
  const units = { B: [[1e12, "TB"], [1e9, "GB"], [1e6, "MB"], [1e3, "kB"], [1, "B"]], J: [[1e9, "GJ"], [1e6, "MJ"], [1e3, "kJ"], [1, "J"]],
    s: [[2 * 86400, "d"], [7200, "h"], [120, "min"], [1, "s"], [0, "ms"]], share: [[0, "%"]] }[dimension];
  if (!units) return String(Number(value.toPrecision(6)));
  const [least, symbol] = units.find(([unit]) => top >= unit) || units[units.length - 1];
  const size = { d: 86400, h: 3600, min: 60, s: 1, ms: 0.001, "%": 0.01 }[symbol] || least;
  return `${Number((value / size).toFixed(Math.max(0, Math.ceil(-Math.log10(step / size)))))} ${symbol}`;
}
function ticks(low, high, about) {
  const span = high - low || 1, step10 = 10 ** Math.floor(Math.log10(span / about));
  const step = [1, 2, 5, 10].map((k) => k * step10).find((s) => span / s <= about);
  const first = Math.ceil(low / step - 1e-9), found = [];
  for (let k = first; k * step <= high + step * 1e-9; k++) found.push(Number((k * step).toPrecision(12)));
  return found;
}

// --- a chart: lines with bands over rounds; the pointer or the arrow keys read it
class Chart {
  constructor() {
    this.key = make("div", { className: "key" });
    this.place = make("div", { className: "chart", tabIndex: 0 });
    this.title = make("h3");
    this.tip = make("div", { className: "tip", hidden: true });
    this.card = make("div", { className: "card" }, this.title, this.key, this.place);
    this.at = null;
    new ResizeObserver(() => this.draw()).observe(this.place);
    this.place.addEventListener("pointermove", (event) => this.point(event.offsetX));
    this.place.addEventListener("pointerleave", () => this.read(null));
    this.place.addEventListener("blur", () => this.read(null));
    this.place.addEventListener("keydown", (event) => this.step(event));
  }
  show(spec) {
    const text = JSON.stringify(spec);
    if (text === this.text) return;
    this.text = text;
    this.spec = spec;
    this.title.textContent = spec.title;
    const banded = spec.lines.some((line) => line.low.some((v) => v !== null));
    this.key.replaceChildren(...spec.lines.filter((line) => line.label && (spec.lines.length > 1 || banded)).map((line) => {
      const mark = make("i");
      mark.style.borderColor = colour(line.colour);
      return make("span", {}, mark, line.label);
    }), ...this.marks(spec), ...(banded ? [make("span", {}, spec.better ? "band: worst to best node" : "band: lowest to highest")] : []));
    this.draw();
  }
  marks(spec) {
    const found = new Set((spec.marks || []).map((mark) => mark.kind));
    return [["lost", "▼ nodes lost"], ["rejoined", "▲ nodes back"]].filter(([kind]) => found.has(kind)).map(([, text]) => make("span", {}, text));
  }
  draw() {
    const width = this.place.clientWidth, height = 220;
    if (!width || !this.spec) return;
    const lines = this.spec.lines, left = 58, right = 12, top = 8, bottom = 24;
    let low = Infinity, high = -Infinity, first = Infinity, last = -Infinity;
    for (const line of lines) line.round.forEach((round, k) => {
      for (const value of [line.mean[k], line.low[k], line.high[k]]) if (value !== null) {
        low = Math.min(low, value);
        high = Math.max(high, value);
      }
      first = Math.min(first, round);
      last = Math.max(last, round);
    });
    if (!isFinite(low)) return;
    if (["B", "s"].includes(this.spec.dimension) || this.spec.name === "missing") low = Math.min(low, 0);
    if (high === low) [low, high] = [low - Math.abs(low) * 0.1, high + (Math.abs(high) * 0.1 || 1)];
    last = last === first ? first + 1 : last;
    const x = (round) => left + (round - first) / (last - first) * (width - left - right);
    const y = (value) => height - bottom - (value - low) / (high - low) * (height - top - bottom);
    this.x = x;
    const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, height, "aria-hidden": "true" });
    const steps = ticks(low, high, 5), apart = steps.length > 1 ? steps[1] - steps[0] : high - low;
    for (const value of steps) {
      svg.append(draw("line", { x1: left, x2: width - right, y1: y(value), y2: y(value), stroke: "var(--grid)" }));
      svg.append(draw("text", { x: left - 7, y: y(value) + 4, "text-anchor": "end" }, axis(value, this.spec.dimension, high, apart)));
    }
    for (const round of ticks(first, last, width / 80)) if (Number.isInteger(round))
      svg.append(draw("text", { x: x(round), y: height - 6, "text-anchor": "middle" }, whole(round)));
    for (const mark of this.spec.marks || []) if (mark.round >= first && mark.round <= last) {
      const at = x(mark.round), base = height - bottom, back = mark.kind === "rejoined", ink = back ? "var(--c2)" : "var(--c1)";
      svg.append(draw("line", { x1: at, x2: at, y1: top, y2: base, stroke: ink, "stroke-dasharray": "2 4", opacity: 0.7 }));
      svg.append(draw("path", { d: back ? `M${at - 5} ${base}h10l-5 -8z` : `M${at - 5} ${base - 8}h10l-5 8z`, fill: ink }));
    }
    for (const line of lines) {
      const known = line.round.map((_, k) => k).filter((k) => line.mean[k] !== null);
      const banded = known.filter((k) => line.low[k] !== null);
      if (banded.length > 1 && lines.length < 7) {
        const there = banded.map((k) => `${x(line.round[k])},${y(line.high[k])}`);
        const back = banded.map((k) => `${x(line.round[k])},${y(line.low[k])}`).reverse();
        svg.append(draw("polygon", { points: [...there, ...back].join(" "), fill: colour(line.colour), opacity: 0.16 }));
      }
      const path = known.map((k) => `${x(line.round[k]).toFixed(1)},${y(line.mean[k]).toFixed(1)}`);
      svg.append(draw("polyline", { points: path.join(" "), fill: "none", stroke: colour(line.colour), "stroke-width": 2, "stroke-linejoin": "round" }));
      const end = known[known.length - 1];
      if (end !== undefined) svg.append(draw("circle", { cx: x(line.round[end]), cy: y(line.mean[end]), r: 3, fill: colour(line.colour) }));
    }
    this.cross = draw("line", { y1: top, y2: height - bottom, stroke: "var(--soft)", "stroke-dasharray": "3 3", visibility: "hidden" });
    svg.append(this.cross);
    this.place.replaceChildren(svg, this.tip);
    this.rounds = [...new Set(lines.flatMap((line) => line.round))].sort((a, b) => a - b);
    const told = lines.map((line) => `${line.label} ${quantity(line.mean[line.mean.length - 1], this.spec.dimension)}`);
    this.place.setAttribute("role", "img");
    this.place.setAttribute("aria-label", `${this.spec.title} over rounds ${first} to ${last}. Last: ${told.join(", ")}. Arrow keys read it.`);
    this.read(this.at);
  }
  point(offset) {
    if (!this.rounds) return;
    const near = (a, b) => Math.abs(this.x(b) - offset) < Math.abs(this.x(a) - offset) ? b : a;
    this.read(this.rounds.reduce(near));
  }
  step(event) {
    const by = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    if (by === undefined || !this.rounds) return;
    event.preventDefault();
    const now = this.at === null ? this.rounds.length : this.rounds.indexOf(this.at);
    this.read(this.rounds[Math.max(0, Math.min(this.rounds.length - 1, now + by))]);
  }
  read(round) {
    this.at = round;
    this.tip.hidden = round === null;
    if (!this.cross) return;
    this.cross.setAttribute("visibility", round === null ? "hidden" : "visible");
    if (round === null) return;
    const at = this.x(round), width = this.place.clientWidth;
    this.cross.setAttribute("x1", at);
    this.cross.setAttribute("x2", at);
    const rows = [make("div", {}, `round ${whole(round)}`)];
    for (const line of this.spec.lines) {
      const k = line.round.indexOf(round);
      if (k < 0 || line.mean[k] === null) continue;
      const mark = make("span", { className: "swatch" });
      mark.style.background = colour(line.colour);
      const of = this.spec.dimension, range = line.low[k] === null ? "" : ` (${quantity(line.low[k], of)} to ${quantity(line.high[k], of)})`;
      rows.push(make("div", {}, mark, `${line.label} `, make("b", {}, quantity(line.mean[k], of)), range));
    }
    this.tip.replaceChildren(...rows);
    this.tip.setAttribute("role", "status");
    this.tip.style.left = at < width / 2 ? `${at + 12}px` : "auto";
    this.tip.style.right = at < width / 2 ? "auto" : `${width - at + 12}px`;
  }
}
const charts = new Map();

// --- the page
function now() { return Date.now() / 1000 + state.shift; }
function ago(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 120) return `${whole} s`;
  if (whole < 7200) return `${Math.round(whole / 60)} min`;
  return whole < 172800 ? `${(whole / 3600).toFixed(1)} h` : `${(whole / 86400).toFixed(1)} d`;
}
function clock(seconds) { return new Date(seconds * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" }); }
function since(run) {
  if (run.state === "running") return `running for ${ago(now() - run.since)}`;
  if (run.state === "stale") return `nothing heard for ${ago(now() - run.since)}: it was killed, or runs where its lock cannot be seen`;
  return `${run.state} at ${clock(run.since)}, ${ago(now() - run.since)} ago`;
}
function bar(run) {
  const share = run.rounds ? Math.min(1, run.round / run.rounds) : 0, inside = make("i");
  inside.style.width = `${100 * share}%`;
  const element = make("div", { className: "bar" }, inside);
  element.setAttribute("role", "progressbar");
  element.setAttribute("aria-label", "rounds done");
  element.setAttribute("aria-valuemin", 0);
  element.setAttribute("aria-valuemax", run.rounds || 0);
  element.setAttribute("aria-valuenow", run.round);
  return element;
}
function way(run) {
  const parts = [make("b", {}, `round ${whole(run.round)}${run.rounds ? ` of ${whole(run.rounds)}` : ""}`)];
  if (run.seconds_a_round !== null) parts.push(make("span", {}, `${quantity(run.seconds_a_round, "s")} a round`));
  if (run.seconds_left) parts.push(make("span", {}, `about ${ago(run.seconds_left)} left`));
  parts.push(make("span", { className: "since" }, since(run)));
  return [make("div", { className: "way" }, ...parts), ...(run.rounds ? [bar(run)] : [])];
}
const shown = () => (state.chosen === null ? state.data.runs : [state.data.runs[state.chosen]]).filter(Boolean);
const indices = () => state.chosen === null ? state.data.runs.map((_, k) => k) : [state.chosen];

function page() {
  const data = state.data, runs = shown(), several = data.runs.length > 1, one = runs.length === 1 ? runs[0] : null;
  const count = {};
  for (const run of data.runs) count[run.state] = (count[run.state] || 0) + 1;
  const all = Object.entries(count).map(([word, n]) => `${n} ${word}`).join(", ");
  const title = one ? one.name : `${runs.length} runs`;
  $("title").textContent = title;
  $("state").textContent = one ? one.state : all;
  $("state").className = `pill ${one ? one.state : Object.keys(count).length === 1 ? data.runs[0].state : ""}`;
  const done = one && one.rounds ? ` ${one.round}/${one.rounds}` : "";
  document.title = `${title}${done} ${one ? one.state : all} · hansa watch`;
  $("where").textContent = one ? [one.folder, one.nodes && `${whole(one.nodes)} node${one.nodes > 1 ? "s" : ""}`].filter(Boolean).join(" · ") : "";
  $("alerts").replaceChildren(...runs.flatMap((run) => [run.error, ...run.problems].filter(Boolean).map((text) => make("p", { className: "alert" }, several ? `${run.name}: ${text}` : text))));
  $("way").replaceChildren(...(one ? way(one) : []));
  const focused = $("runs").contains(document.activeElement) && document.activeElement.dataset.index;
  $("runs").replaceChildren(...(several ? [overview(data.runs)] : []));
  if (focused) ($("runs").querySelector(`button[data-index="${focused}"]`) || $("runs").querySelector("button")).focus();
  const tiles = one ? one.tiles.map((tile) => ({ ...tile })) : [];
  const faults = {};
  for (const run of runs) for (const [name, n] of Object.entries(run.faults)) faults[name] = (faults[name] || 0) + n;
  const words = { missing: "messages lost", silent: "messages not heard in time", lost: "nodes lost", rejoined: "nodes rejoined", "worker lost": "workers lost" };
  for (const [name, n] of Object.entries(faults)) tiles.push({ name: words[name] || name, number: whole(n), remark: "", fault: name !== "rejoined" });
  $("tiles").replaceChildren(...tiles.map((tile) => make("div", { className: tile.fault ? "tile fault" : "tile" }, make("span", {}, tile.name), make("b", {}, tile.number), make("span", {}, tile.remark))));
  graphs(runs);
  const events = runs.flatMap((run) => run.events.map((event) => ({ ...event, run: run.label }))).sort((a, b) => (a.time < b.time) - (a.time > b.time)).slice(0, 100);
  $("quiet").hidden = events.length > 0;
  $("events").tBodies[0].replaceChildren(...events.map((event) => make("tr", { className: event.fault ? "fault" : "" },
    make("td", { className: "time" }, clock(Date.parse(event.time) / 1000)), ...(several && !one ? [make("td", { className: "kind" }, event.run)] : []),
    make("td", { className: "kind" }, event.kind), make("td", { className: "text" }, event.text))));
}
function overview(runs) {
  const table = make("table", {}, make("thead", {}, make("tr", {}, ...["run", "state", "round", "", "left", "", ""].map((word) => make("th", {}, word)))));
  const body = make("tbody");
  const choose = (index, label) => {
    const button = make("button", { type: "button" }, label);
    button.dataset.index = index === null ? "all" : index;
    button.addEventListener("click", () => {
      state.chosen = index;
      everything();
    });
    return button;
  };
  runs.forEach((run, index) => {
    const mark = make("span", { className: "swatch" });
    mark.style.background = colour(index);
    const row = make("tr", {}, make("td", {}, mark, choose(index, run.label)), make("td", {}, make("span", { className: `pill ${run.state}` }, run.state)),
      make("td", { className: "n" }, `${whole(run.round)}${run.rounds ? ` / ${whole(run.rounds)}` : ""}`), make("td", {}, bar(run)),
      make("td", { className: "n" }, run.seconds_left ? ago(run.seconds_left) : ""),
      ...[0, 1].map((k) => make("td", {}, run.tiles[k] ? `${run.tiles[k].name} ${run.tiles[k].number}` : "")));
    row.setAttribute("aria-selected", state.chosen === index);
    body.append(row);
  });
  table.append(body);
  const box = make("div", { className: "scroll" }, table);
  if (state.chosen !== null) box.append(choose(null, "← all runs together"));
  return box;
}
function graphs(runs) {
  const specs = new Map();
  if (runs.length === 1) for (const chart of runs[0].charts) specs.set(chart.title, { ...chart, marks: runs[0].marks, lines: chart.lines.map((line, k) => ({ ...line, colour: k })) });
  else for (const index of indices()) for (const chart of state.data.runs[index].charts) {
    const spec = specs.get(chart.title) || { title: chart.title, dimension: chart.dimension, better: chart.better, lines: [] };
    spec.lines.push({ ...chart.lines[0], label: state.data.runs[index].label, colour: index });
    specs.set(chart.title, spec);
  }
  for (const [title, chart] of charts) if (!specs.has(title)) {
    chart.card.remove();
    charts.delete(title);
  }
  for (const [title, spec] of specs) {
    if (!charts.has(title)) charts.set(title, new Chart());
    const chart = charts.get(title);
    if (chart.card.parentNode !== $("charts")) $("charts").append(chart.card);
    chart.show(spec);
  }
}

// --- nodes
const RAMP = [[0, 32, 76], [60, 77, 110], [124, 123, 120], [186, 171, 104], [255, 233, 69]];  // cividis: Nuñez et al., 2018
function ramp(share) {
  const at = Math.max(0, Math.min(1, share)) * (RAMP.length - 1), k = Math.min(RAMP.length - 2, Math.floor(at));
  return `rgb(${RAMP[k].map((low, i) => Math.round(low + (RAMP[k + 1][i] - low) * (at - k))).join(",")})`;
}
function gathered() {
  const every = [], figures = new Map(), faults = [], several = state.data.runs.length > 1;
  let of = 0;
  for (const index of indices()) {
    const table = state.tables[index];
    if (!table) continue;
    of += table.of;
    for (const figure of table.figures) if (!figures.has(figure.name)) figures.set(figure.name, figure);
    for (const fault of table.faults) if (!faults.includes(fault.name)) faults.push(fault.name);
    const servers = new Set(table.server), gone = new Set(table.gone);
    table.node.forEach((node, k) => {
      const row = { run: index, node, round: table.round[k], server: servers.has(node), gone: gone.has(node), trouble: 0 };
      for (const figure of table.figures) row[`figure ${figure.name}`] = figure.values[k];
      for (const fault of table.faults) {
        row[`fault ${fault.name}`] = fault.values[k];
        row.trouble += fault.values[k];
      }
      // A site says nothing of the nodes of others.
      if (!several || row.round >= 0 || row.trouble) every.push(row);
      else of -= 1;
    });
  }
  return { rows: every, figures: [...figures.values()], faults, of };
}
function nodes() {
  const { rows, figures, faults, of } = gathered();
  $("nodes-part").hidden = rows.length === 0;
  if (!rows.length) return;
  map(rows, figures[0]);
  const several = state.data.runs.length > 1 && state.chosen === null;
  const columns = [["node", "node", "n"], ...(several ? [["run", "run", ""]] : []), ["round", "last round", "n"],
    ...figures.map((figure) => [`figure ${figure.name}`, figure.label, "n"]), ...faults.map((name) => [`fault ${name}`, name, "n"])];
  const focused = document.activeElement && document.activeElement.dataset && document.activeElement.dataset.key;
  $("nodes").tHead.replaceChildren(make("tr", {}, ...columns.map(([key, label, kind]) => {
    const button = make("button", { type: "button" }, label), head = make("th", { className: kind, scope: "col" }, button);
    button.dataset.key = key;
    button.addEventListener("click", () => {
      state.down = state.order === key ? !state.down : key !== "node" && key !== "run";
      state.order = key;
      nodes();
    });
    if (state.order === key) head.setAttribute("aria-sort", state.down ? "descending" : "ascending");
    return head;
  })));
  if (focused) document.querySelector(`#nodes button[data-key="${focused}"]`)?.focus();
  const wanted = $("find").value.trim().toLowerCase();
  const kept = rows.filter((row) => !wanted || (/^faults?$/.test(wanted) ? row.trouble || row.gone : /^servers?$/.test(wanted) ? row.server : String(row.node) === wanted || state.data.runs[row.run].label.toLowerCase() === wanted));
  const key = state.order, sign = state.down ? -1 : 1;
  kept.sort((a, b) => {
    if (key === null) return (b.gone - a.gone) || ((b.trouble > 0) - (a.trouble > 0)) || a.run - b.run || a.node - b.node;
    const [p, q] = [a[key], b[key]];
    if (p === q) return a.run - b.run || a.node - b.node;
    return p === null || p === undefined ? 1 : q === null || q === undefined ? -1 : sign * (p < q ? -1 : 1);
  });
  $("count").textContent = kept.length === of ? `${whole(of)} node${of > 1 ? "s" : ""}` : `${whole(kept.length)} of ${whole(of)} nodes`;
  $("nodes").tBodies[0].replaceChildren(...kept.slice(0, state.rows).map((row) => make("tr", {}, ...columns.map(([key, , kind]) => {
    const [what, name] = key.split(" "), value = row[key];
    let text = value, mark = "";
    if (what === "figure") text = quantity(value, figures.find((f) => key === `figure ${f.name}`).dimension);
    else if (what === "fault") {
      text = whole(value || 0);
      mark = value ? (name === "rejoined" ? "" : "hit") : "zero";
    } else if (what === "round") text = value < 0 ? "–" : whole(value);
    else if (what === "run") text = state.data.runs[value].label;
    else if (row.server) text = `server ${value}`;
    if (what === "node" && row.gone) {
      text = `${text} (gone)`;
      mark = "hit";
    }
    return make("td", { className: `${kind} ${mark}` }, String(text));
  }))));
  $("more").hidden = kept.length <= state.rows;
  $("more").textContent = `show ${whole(Math.min(kept.length - state.rows, 500))} more`;
}
function map(rows, figure) {
  const values = figure ? rows.map((row) => row[`figure ${figure.name}`]).filter((v) => v !== null && v !== undefined) : [];
  const low = Math.min(...values), high = Math.max(...values), small = rows.length > 1;
  $("map").hidden = $("scale").hidden = !small || !values.length;
  if (!small || !values.length) return;
  $("map").style.setProperty("--cell", `${rows.length <= 64 ? 20 : rows.length <= 400 ? 14 : 9}px`);
  const dark = make("span", { className: "ramp" });
  dark.style.background = `linear-gradient(90deg, ${RAMP.map((_, k) => ramp(k / (RAMP.length - 1))).join(",")})`;
  $("scale").replaceChildren(make("span", {}, `${figure.label}: ${quantity(low, figure.dimension)}`, dark, quantity(high, figure.dimension)),
    ...(rows.some((row) => row.trouble || row.gone) ? [make("span", {}, "framed: had faults; empty: gone")] : []));
  $("map").setAttribute("role", "img");
  $("map").setAttribute("aria-label", `${figure.label} of ${rows.length} nodes; the table below has the numbers`);
  const cells = $("map").children;
  while (cells.length > rows.length) cells[cells.length - 1].remove();
  while (cells.length < rows.length) $("map").append(make("i"));
  rows.forEach((row, k) => {
    const value = row[`figure ${figure.name}`], cell = cells[k], known = value !== null && value !== undefined;
    cell.style.background = known ? ramp(high > low ? (value - low) / (high - low) : 1) : "";
    cell.className = row.gone ? "gone" : row.trouble ? "hit" : "";
    cell.title = `node ${row.node}: ${quantity(value, figure.dimension)}${row.trouble ? `, ${row.trouble} faults` : ""}`;
  });
}
$("find").addEventListener("input", () => { state.rows = ROWS; nodes(); });
$("more").addEventListener("click", () => { state.rows += 500; nodes(); });

function everything() {
  if (!state.data) return;
  const names = state.data.runs.map((run) => run.folder.split("/").pop());
  state.data.runs.forEach((run, k) => { run.label = names.filter((name) => name === names[k]).length > 1 ? run.folder : names[k]; });
  page();
  nodes();
}
let due = false;  // several messages in a row are drawn once
function soon() {
  if (due) return;
  due = true;
  setTimeout(() => { due = false; everything(); }, 30);
}
setInterval(() => {  // what only time changes
  if (!state.data || shown().length !== 1) return;
  const run = shown()[0], place = document.querySelector("#way .since");
  if (place) place.textContent = since(run);
}, 1000);

function link(text, off) {
  $("link").textContent = text;
  $("link").className = off ? "link off" : "link";
}
function connect() {
  const source = new EventSource("/events");
  source.addEventListener("open", () => { state.over = false; link("live", false); });
  source.addEventListener("runs", (event) => {
    state.data = JSON.parse(event.data);
    state.shift = state.data.now - Date.now() / 1000;
    state.over = false;
    link("live", false);
    soon();
  });
  source.addEventListener("nodes", (event) => {
    const table = JSON.parse(event.data);
    state.tables[table.run] = table;
    soon();
  });
  source.addEventListener("over", () => { state.over = true; link("ended", false); });
  source.addEventListener("error", () => {
    if (state.over) {
      source.close();
      link("no longer watched", false);
    } else {
      link("not connected: hansa watch has stopped; trying again …", true);
      if (source.readyState === EventSource.CLOSED) setTimeout(connect, 2000);
    }
  });
}
connect();
