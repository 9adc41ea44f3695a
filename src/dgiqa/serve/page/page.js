"use strict";
// Pictures are sent one by one, two at a time, so that the first score is there soon and none waits for all.
const AT_ONCE = 2;
const pictures = [];  // {file, name, url, row, error, chosen, item, explained}
const queue = [];
let running = 0;
let key = "";

const by = (id) => document.getElementById(id);
const make = (tag, text, attributes = {}) => {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
};
const words = (kind) => kind.replaceAll("_", " ");

async function ask(path, options = {}) {
  const headers = key ? { ...options.headers, "X-API-Key": key } : options.headers;
  for (let tries = 0; ; tries += 1) {
    const answer = await fetch(path, { ...options, headers });
    if (answer.status === 429 && tries < 60) {  // busy: it says when to come back
      const seconds = Number(answer.headers.get("Retry-After")) || 1;
      await new Promise((done) => setTimeout(done, 1000 * Math.min(seconds, 10)));
      continue;
    }
    const body = await answer.json();
    if (answer.status === 401) {
      by("key").hidden = false;
      by("key-value").focus();
    }
    if (!answer.ok) throw new Error(body.detail || body.title);
    return body;
  }
}

function add(files) {
  for (const file of files) {
    const picture = { file, name: file.name || "pasted picture", url: URL.createObjectURL(file), chosen: false };
    pictures.push(picture);
    queue.push(picture);
    show(picture);
  }
  order();
  work();
}

async function work() {
  while (running < AT_ONCE && queue.length) {
    running += 1;
    score(queue.shift()).finally(() => { running -= 1; work(); });
  }
}

async function score(picture) {
  try {
    const body = await ask("v1/score", { method: "POST", body: picture.file, headers: { "Content-Type": "application/octet-stream" } });
    picture.row = { ...body.rows[0], path: picture.name };
  } catch (error) {
    picture.error = error.message.replace(/^body: /, "");
  }
  show(picture);
  order();
}

// ---- rows

function show(picture) {
  const item = make("li");
  const side = make("div", undefined, { class: "side" });
  const box = make("input", undefined, { type: "checkbox", "aria-label": `Compare ${picture.name}` });
  box.checked = picture.chosen;
  box.disabled = !picture.row;
  box.addEventListener("change", () => choose(picture, box));
  const image = make("img", undefined, { src: picture.url, alt: "" });
  image.addEventListener("error", () => image.replaceWith(make("span", undefined, { class: "none" })));
  side.append(box, image);
  const number = make("div", undefined, { class: "score" });
  const name = make("div", undefined, { class: "name" });
  name.append(make("p", picture.name));
  const action = make("div", undefined, { class: "do" });
  if (picture.row) {
    const { quality, low, high, width, height, notes } = picture.row;
    number.append(quality.toFixed(1));
    if (low !== null) number.append(make("small", `${low.toFixed(0)} to ${high.toFixed(0)}`));
    name.append(make("p", [`${width} × ${height}`, ...notes].join("; "), { class: "quiet" }));
    const button = make("button", "Why?", { type: "button", "aria-label": `Why ${picture.name} scores ${quality.toFixed(1)}` });
    button.addEventListener("click", () => open([picture]));
    action.append(button);
  } else if (picture.error) {
    number.append(make("small", "failed", { class: "failed" }));
    name.append(make("p", picture.error, { class: "failed" }));
  } else {
    number.append(make("small", "waiting"));
  }
  item.append(side, number, name, action);
  if (picture.item) picture.item.replaceWith(item);
  picture.item = item;
}

function order() {
  const way = by("sort").value;
  const sign = { worst: 1, best: -1 }[way];
  const quality = (p) => (p.row ? sign * p.row.quality : Infinity);
  const sorted = sign ? [...pictures].sort((a, b) => quality(a) - quality(b)) : pictures;
  const rows = by("rows");
  sorted.forEach((picture, i) => {
    if (rows.children[i] !== picture.item) rows.insertBefore(picture.item, rows.children[i] || null);
  });
  const scored = pictures.filter((p) => p.row).length;
  const failed = pictures.filter((p) => p.error).length;
  const waiting = pictures.length - scored - failed;
  const parts = [`${scored} scored`, failed && `${failed} failed`, waiting && `${waiting} waiting`].filter(Boolean);
  by("count").textContent = pictures.length ? parts.join(", ") : "No pictures yet.";
  by("download").disabled = !(scored + failed);
  by("clear").disabled = !pictures.length || waiting > 0;
  by("compare").disabled = pictures.filter((p) => p.chosen).length !== 2;
}

function choose(picture, box) {
  picture.chosen = box.checked;
  const chosen = pictures.filter((p) => p.chosen);
  if (chosen.length > 2) {  // the one chosen before gives way
    const first = chosen.find((p) => p !== picture);
    first.chosen = false;
    show(first);
  }
  order();
}

// ---- reasons

async function open(chosen) {
  by("dialog-title").textContent = chosen.length === 2 ? "Two pictures compared" : "Why it scores so";
  const sides = by("sides");
  sides.replaceChildren(...chosen.map((p) => make("section", `${p.name}: looking …`, { "aria-busy": "true" })));
  by("dialog").showModal();
  await Promise.all(chosen.map(async (picture, i) => {
    const place = sides.children[i];
    try {
      picture.explained ??= await ask("v1/explain?side=512", {
        method: "POST", body: picture.file, headers: { "Content-Type": "application/octet-stream" },
      });
      place.replaceWith(reasons(picture));
    } catch (error) {
      place.replaceWith(make("section", `${picture.name}: ${error.message}`, { class: "failed" }));
    }
  }));
}

const MAPS = {
  picture: "the picture as the network sees it",
  depth: "depth: light is near",
  attention: "where depth looks: yellow most",
  quality: "quality: yellow good, dark blue bad",
};

function reasons(picture) {
  const { quality, low, high, faults, no_fault, sharpness, images } = picture.explained;
  const section = make("section");
  section.append(make("h3", picture.name));
  const inside = low === null ? "" : ` (${low.toFixed(0)} to ${high.toFixed(0)})`;
  section.append(make("p", `Quality ${quality.toFixed(1)} of 100${inside}`));
  const figures = make("div", undefined, { class: "maps" });
  for (const [name, source] of Object.entries(images)) {
    const figure = make("figure");
    figure.append(make("img", undefined, { src: source, alt: MAPS[name] }), make("figcaption", MAPS[name]));
    figures.append(figure);
  }
  section.append(figures);
  const sharp = Object.entries(sharpness).filter(([, value]) => value !== null);
  section.append(make("p", `Sharpness: ${sharp.map(([name, value]) => `${name} ${value.toFixed(2)}`).join(", ") || "no edges"}`));
  if (faults.length) section.append(table(faults, no_fault));
  return section;
}

function table(faults, none) {
  const grid = make("table");
  const head = make("tr");
  for (const text of ["Fault", "Probability", "", "Severity, of 5"]) head.append(make("th", text, { scope: "col" }));
  grid.append(head);
  for (const { kind, probability, severity, found } of [...faults, { kind: "no fault", probability: none, severity: null, found: false }]) {
    const row = make("tr", undefined, found ? { class: "found" } : {});
    const meter = make("meter", undefined, { min: 0, max: 1, value: probability, "aria-label": `probability of ${words(kind)}` });
    const cell = make("td");
    cell.append(meter);
    row.append(make("th", words(kind), { scope: "row" }), make("td", probability.toFixed(2)), cell, make("td", found ? severity.toFixed(1) : ""));
    grid.append(row);
  }
  return grid;
}

// ---- table

function csv() {
  const columns = ["path", "status", "quality", "low", "high", "raw", "model", "runtime", "width", "height", "error"];
  const cell = (value) => {
    let text = value === null || value === undefined ? "" : String(value);
    if (/^[=+\-@\t\r]/.test(text) && Number.isNaN(Number(text))) text = `'${text}`;  // a spreadsheet would run it
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const rows = pictures.filter((p) => p.row || p.error)
    .map((p) => p.row || { path: p.name, status: "failed", error: p.error });
  return [columns.join(","), ...rows.map((row) => columns.map((c) => cell(row[c])).join(","))].join("\r\n") + "\r\n";
}

function download() {
  const link = make("a", undefined, { download: "scores.csv", href: URL.createObjectURL(new Blob([csv()], { type: "text/csv" })) });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// ---- events

by("files").addEventListener("change", (event) => { add(event.target.files); event.target.value = ""; });
for (const kind of ["dragenter", "dragover"]) {
  document.addEventListener(kind, (event) => { event.preventDefault(); by("drop").classList.add("over"); });
}
for (const kind of ["dragleave", "drop"]) document.addEventListener(kind, () => by("drop").classList.remove("over"));
document.addEventListener("drop", (event) => { event.preventDefault(); add(event.dataTransfer.files); });
document.addEventListener("paste", (event) => add([...event.clipboardData.files]));
by("sort").addEventListener("change", order);
by("compare").addEventListener("click", () => open(pictures.filter((p) => p.chosen)));
by("download").addEventListener("click", download);
by("clear").addEventListener("click", () => {
  for (const picture of pictures) URL.revokeObjectURL(picture.url);
  pictures.length = 0;
  by("rows").replaceChildren();
  order();
});
by("key").addEventListener("submit", (event) => {
  event.preventDefault();
  key = by("key-value").value;
  by("key").hidden = true;
  for (const picture of pictures.filter((p) => p.error)) {
    delete picture.error;
    queue.push(picture);
    show(picture);
  }
  order();
  who();
  work();
});

async function who() {
  try {
    const served = (await ask("v1/models")).find((model) => model.served);
    by("model").textContent = `Model ${served.name} ${served.version}.`;
  } catch { /* without a key nobody is told */ }
}
who();
