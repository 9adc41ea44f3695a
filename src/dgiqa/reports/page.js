"use strict";
// The list holds only the rows that can be seen: ten thousand pictures scroll as lightly as ten.
const { rows, bins } = JSON.parse(document.getElementById("data").textContent);
const HEIGHT = 76, SPARE = 6;
const by = (id) => document.getElementById(id);
const list = by("list"), room = by("room"), dialog = by("one");
let shown = [], chosen = 0, drawn = new Map();

const number = (value) => (value === null ? "" : value.toFixed(1));
const ends = (row) => (row.low === null ? "" : `${row.low.toFixed(0)}–${row.high.toFixed(0)}`);
const width = (row) => (row.low === null ? -1 : row.high - row.low);
const name = (row) => (row.quality === null ? `${row.path}, failed` : `${row.path}, quality ${number(row.quality)}`);

const orders = {
  worst: (a, b) => a.quality - b.quality,
  best: (a, b) => b.quality - a.quality,
  unsure: (a, b) => width(b) - width(a),
  path: (a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0),
};

function make(tag, text, className) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  return element;
}

function limits() {
  const low = by("low").value, high = by("high").value;
  return [low === "" ? -Infinity : Number(low), high === "" ? Infinity : Number(high)];
}

function choose() {
  const text = by("text").value.toLowerCase(), status = by("status").value, [low, high] = limits();
  const fault = by("fault").value;
  const narrowed = low !== -Infinity || high !== Infinity;
  shown = rows.filter((row) => {
    if (text && !row.path.toLowerCase().includes(text)) return false;
    // Only explained pictures have faults; the last line of theirs is that of none.
    if (fault && !(row.faults || []).some(([kind, , severity]) => kind === fault && severity !== null)) return false;
    if (row.quality === null) return status !== "ok" && !narrowed;
    // As in the histogram, a range leaves its upper end to the next one; 100 has no next.
    return status !== "failed" && row.quality >= low && (row.quality < high || high >= 100);
  });
  const sort = by("sort").value, order = orders[sort];
  // What failed has no quality: it comes last, in the order of paths.
  const last = (row) => (sort !== "path" && row.quality === null ? 1 : 0);
  shown.sort((a, b) => last(a) - last(b) || (last(a) ? orders.path(a, b) : order(a, b) || orders.path(a, b)));
  chosen = 0;
  by("count").textContent = `${shown.length} of ${rows.length} pictures`;
  room.style.height = `${shown.length * HEIGHT}px`;
  list.scrollTop = 0;
  room.replaceChildren();
  drawn = new Map();
  for (const bar of by("histogram").children)
    bar.setAttribute("aria-pressed", Number(bar.dataset.low) === low && Number(bar.dataset.high) === high);
  draw();
}

function line(index) {
  const row = shown[index], element = make("div", undefined, "row");
  element.id = `row-${index}`;
  element.setAttribute("role", "option");
  element.setAttribute("aria-label", name(row));
  element.setAttribute("aria-setsize", shown.length);
  element.setAttribute("aria-posinset", index + 1);
  element.style.top = `${index * HEIGHT}px`;
  const picture = row.picture ? make("img") : make("span");
  if (row.picture) Object.assign(picture, { src: row.picture, alt: "" });
  const failed = row.quality === null;
  element.append(
    picture,
    make("b", failed ? "–" : number(row.quality)),
    make("span", ends(row), "ends"),
    make("span", failed ? `${row.error || row.path}` : row.path, failed ? "path failed" : "path"),
  );
  element.addEventListener("click", () => { select(index); open(); });
  return element;
}

function draw() {
  const first = Math.max(0, Math.floor(list.scrollTop / HEIGHT) - SPARE);
  const after = Math.min(shown.length, Math.ceil((list.scrollTop + list.clientHeight) / HEIGHT) + SPARE);
  for (const [index, element] of drawn)
    if (index < first || index >= after) { element.remove(); drawn.delete(index); }
  for (let index = first; index < after; index++)
    if (!drawn.has(index)) { const element = line(index); room.append(element); drawn.set(index, element); }
  for (const [index, element] of drawn) element.setAttribute("aria-selected", index === chosen);
  if (drawn.has(chosen)) list.setAttribute("aria-activedescendant", `row-${chosen}`);
  else list.removeAttribute("aria-activedescendant");
}

function select(index) {
  if (!shown.length) return;
  chosen = Math.max(0, Math.min(shown.length - 1, index));
  const top = chosen * HEIGHT;
  if (top < list.scrollTop) list.scrollTop = top;
  else if (top + HEIGHT > list.scrollTop + list.clientHeight) list.scrollTop = top + HEIGHT - list.clientHeight;
  draw();
}

function open() {
  const row = shown[chosen];
  if (!row) return;
  const body = by("one-body"), facts = make("dl");
  by("one-title").textContent = row.path;
  const pairs = [
    ["Quality", row.quality === null ? "none" : `${number(row.quality)} of 100`],
    ["90 % interval", ends(row)],
    ["Size", row.width === null ? "" : `${row.width} × ${row.height} pixels`],
    ["Raw score", row.raw === null ? "" : String(row.raw)],
    ["Model", row.model],
    ["Runtime", row.runtime],
    ["Reason", row.error],
    ["Sharpness", row.sharpness && Object.entries(row.sharpness).map(([what, value]) => `${what} ${value.toFixed(2)}`).join(", ")],
  ];
  for (const [what, value] of pairs) if (value) facts.append(make("dt", what), make("dd", value));
  body.replaceChildren();
  if (row.picture) {
    const picture = make("img");
    Object.assign(picture, { src: row.picture, alt: name(row) });
    body.append(picture);
  }
  if (row.maps) body.append(maps(row.maps));
  body.append(facts);
  if (row.faults) body.append(faults(row.faults));
  dialog.showModal();
}

const MAPS = { depth: "depth: light is near", attention: "where depth looks", quality: "quality: yellow good, dark blue bad" };

function maps(found) {
  const all = make("div", undefined, "maps");
  for (const [what, source] of Object.entries(found)) {
    const figure = make("figure"), picture = make("img");
    Object.assign(picture, { src: source, alt: MAPS[what] });
    figure.append(picture, make("figcaption", MAPS[what], "quiet"));
    all.append(figure);
  }
  return all;
}

function faults(found) {
  const table = make("table"), head = make("tr");
  for (const what of ["Fault", "Probability", "Severity of 5"]) head.append(make("th", what));
  table.append(head);
  for (const [kind, probability, severity] of found) {
    const row = make("tr");
    row.append(make("td", kind), make("td", probability.toFixed(2)), make("td", severity === null ? "" : severity.toFixed(1)));
    table.append(row);
  }
  return table;
}

function histogram() {
  const most = Math.max(1, ...bins.map((bin) => bin.count));
  for (const bin of bins) {
    const bar = make("button"), fill = make("span"), pictures = `${bin.count} picture${bin.count === 1 ? "" : "s"}`;
    bar.type = "button";
    bar.title = `${bin.low} to ${bin.high}: ${pictures}`;
    bar.setAttribute("aria-label", `quality ${bin.low} to ${bin.high}: ${pictures}`);
    Object.assign(bar.dataset, { low: bin.low, high: bin.high });
    fill.style.height = bin.count ? `max(2px, ${(100 * bin.count) / most}%)` : "0";
    bar.append(fill);
    bar.addEventListener("click", () => {
      const same = bar.getAttribute("aria-pressed") === "true";
      by("low").value = same ? "" : bin.low;
      by("high").value = same ? "" : bin.high;
      choose();
    });
    by("histogram").append(bar);
  }
}

const page = () => Math.max(1, Math.floor(list.clientHeight / HEIGHT) - 1);
const moves = {
  ArrowDown: () => chosen + 1, ArrowUp: () => chosen - 1,
  PageDown: () => chosen + page(), PageUp: () => chosen - page(),
  Home: () => 0, End: () => shown.length - 1,
};
list.addEventListener("keydown", (event) => {
  if (event.key === "Enter") open();
  else if (moves[event.key]) select(moves[event.key]());
  else return;
  event.preventDefault();
});
list.addEventListener("scroll", draw);
window.addEventListener("resize", draw);
dialog.addEventListener("close", () => list.focus());
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && !dialog.open && !/INPUT|SELECT/.test(document.activeElement.tagName)) {
    by("text").focus();
    event.preventDefault();
  }
});
by("filters").addEventListener("input", choose);
by("filters").addEventListener("submit", (event) => event.preventDefault());
by("filters").addEventListener("reset", () => setTimeout(choose));
const kinds = rows.flatMap((row) => (row.faults || []).filter(([, , severity]) => severity !== null).map(([kind]) => kind));
for (const kind of [...new Set(kinds)].sort()) by("fault").append(make("option", kind));
by("fault-label").hidden = !kinds.length;
histogram();
choose();
