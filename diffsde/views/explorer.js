"use strict";
const page = JSON.parse(document.getElementById("data").textContent);
const [count, channels, height, width] = page.shape;
const rows = Math.ceil(count / page.columns);
const sheetWidth = page.columns * (width + 1) - 1, sheetHeight = rows * (height + 1) - 1;
const size = channels * height * width;
const $ = (id) => document.getElementById(id);

// What is shown: everything below is drawn from this.
let frame = 0, playing = false, dirty = true;
let kept = {image: 0, row: height >> 1, column: width >> 1, channel: 0};
let pointed = null;  // the pixel under the mouse

const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
for (const run of page.runs) {
  run.states = bytes(run.states);
  run.denoised = run.denoised && bytes(run.denoised);
}
const base = page.runs.reduce((a, b) => (b.t.length > a.t.length ? b : a));
const last = base.t.length - 1;
const falling = base.t[last] < base.t[0];

/* How far a run has got by the time that the base shows. */
function reached(run) {
  if (run === base) return frame;
  const t = base.t[frame];
  let k = 0;
  while (k + 1 < run.t.length && (falling ? run.t[k + 1] >= t - 1e-6 : run.t[k + 1] <= t + 1e-6)) k++;
  return k;
}

const place = (k, p) => ((k * count + p.image) * channels + p.channel) * height * width
  + p.row * width + p.column;
function value(run, k, p) {
  const [low, high] = run.span[k];
  return low + run.states[place(k, p)] / 255 * (high - low);
}
const guessed = (run, k, p) => run.denoised[place(k, p)] / 255;
const active = () => pointed || kept;

function number(x) {
  const text = Math.abs(x) < 0.0005 ? "0" : Number(x.toPrecision(3)).toString();
  return text.replace("-", "−");
}
const noise = (run, k) => (run.std ? `, s(t) = ${number(run.std[k])}` : "");
const moment = () => `t = ${base.t[frame].toFixed(3)}${noise(base, frame)}`;
function description(p) {
  const where = `Image ${p.image + 1}, row ${p.row + 1}, column ${p.column + 1}`
    + (channels > 1 ? `, channel ${p.channel + 1}` : "");
  return where + ": " + page.runs.map((r) => `${r.method} ${number(value(r, reached(r), p))}`).join(", ");
}

/* Words for a screen reader, once things have come to rest. */
let saying;
function say() {
  clearTimeout(saying);
  saying = setTimeout(() => { if (!playing) $("said").textContent = `${moment()}. ${description(kept)}`; }, 400);
}

// The images.

function sheet(run, index, what) {
  const box = document.createElement("div");
  box.innerHTML = `<div class="sheet"><canvas tabindex="0" role="application"></canvas><div class="mark"></div></div>`;
  const canvas = box.querySelector("canvas"), holder = box.querySelector(".sheet");
  canvas.width = sheetWidth;
  canvas.height = sheetHeight;
  canvas.setAttribute("aria-label",
    `${what} of ${run.method}: ${count} images. Arrow keys choose a pixel, brackets an image.`);
  const pixelAt = (event) => {
    const rect = canvas.getBoundingClientRect();
    const x = Math.floor((event.clientX - rect.left) / rect.width * sheetWidth);
    const y = Math.floor((event.clientY - rect.top) / rect.height * sheetHeight);
    const [i, j] = [Math.floor(y / (height + 1)), Math.floor(x / (width + 1))];
    const image = i * page.columns + j, row = y - i * (height + 1), column = x - j * (width + 1);
    const inside = x >= 0 && y >= 0 && j < page.columns && image < count && row < height && column < width;
    return inside ? {image, row, column, channel: kept.channel} : null;
  };
  holder.addEventListener("pointermove", (event) => {
    const pixel = pixelAt(event);
    if (event.pointerType === "mouse") pointed = pixel;
    else if (pixel) keep(pixel);
    dirty = true;
  });
  holder.addEventListener("pointerdown", (event) => { const pixel = pixelAt(event); if (pixel) keep(pixel); });
  holder.addEventListener("pointerleave", () => { pointed = null; dirty = true; });
  canvas.addEventListener("keydown", (event) => {
    const step = {ArrowUp: ["row", -1], ArrowDown: ["row", 1], ArrowLeft: ["column", -1],
      ArrowRight: ["column", 1], "[": ["image", -1], "]": ["image", 1]}[event.key];
    if (!step) return;
    event.preventDefault();
    keep({...kept, [step[0]]: kept[step[0]] + step[1]});
  });
  return {box, canvas, mark: box.querySelector(".mark"), context: canvas.getContext("2d"),
    picture: new ImageData(sheetWidth, sheetHeight)};
}

function drawSheet(view, data, k, span, shades) {
  // One shade for each of the 256 stored values.
  const shade = new Uint8ClampedArray(256);
  for (let q = 0; q < 256; q++) {
    const x = span[0] + q / 255 * (span[1] - span[0]);
    shade[q] = (x - shades[0]) / (shades[1] - shades[0]) * 255;
  }
  const pixels = view.picture.data, plane = height * width;
  for (let image = 0; image < count; image++) {
    const start = (k * count + image) * size;
    const y = Math.floor(image / page.columns) * (height + 1), x = image % page.columns * (width + 1);
    for (let i = 0; i < height; i++) for (let j = 0; j < width; j++) {
      const to = ((y + i) * sheetWidth + x + j) * 4, from = start + i * width + j;
      for (let c = 0; c < 3; c++) pixels[to + c] = shade[data[from + (channels > 1 ? c * plane : 0)]];
      pixels[to + 3] = 255;
    }
  }
  view.context.putImageData(view.picture, 0, 0);
  const p = active(), percent = (part, whole) => `${100 * part / whole}%`;
  Object.assign(view.mark.style, {
    left: percent(p.image % page.columns * (width + 1) + p.column, sheetWidth),
    top: percent(Math.floor(p.image / page.columns) * (height + 1) + p.row, sheetHeight),
    width: percent(1, sheetWidth), height: percent(1, sheetHeight),
  });
}

const estimates = page.runs.some((run) => run.denoised);
if (sheetWidth > 2.5 * sheetHeight) document.body.classList.add("wide");
page.runs.forEach((run, index) => {
  const figure = document.createElement("figure");
  figure.style.setProperty("--run", `var(--run-${index % 4})`);
  const caption = figure.appendChild(document.createElement("figcaption"));
  const name = caption.appendChild(document.createElement("b"));
  name.textContent = run.method;
  const rejected = run.rejected ? `, ${run.rejected} rejected` : "";
  const cost = ` ${run.steps} steps${rejected}, ${run.nfe} score evaluations, ${number(run.seconds)} s`;
  caption.appendChild(document.createElement("span")).textContent = cost;
  const halves = figure.appendChild(document.createElement("div"));
  halves.className = "halves";
  run.view = sheet(run, index, "States x(t)");
  halves.append(run.view.box);
  if (estimates) run.view.box.prepend(Object.assign(document.createElement("small"), {textContent: "x(t)"}));
  // A run without estimates leaves their room empty, so that images of all runs are alike.
  if (!run.denoised && estimates) halves.append(document.createElement("div"));
  if (run.denoised) {
    run.guess = sheet(run, index, "Denoised estimates");
    run.guess.box.prepend(Object.assign(document.createElement("small"), {textContent: "E[x(0) | x(t)]"}));
    halves.append(run.guess.box);
  }
  $("runs").append(figure);
});

// The chart.

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const extreme = Math.max(1e-6, ...page.runs.map((run) => Math.max(
  ...run.span.map(([low, high]) => Math.max(-low, high)), ...(run.diffusion || []))));
const envelopes = () => [
  {curve: base.diffusion, dash: [7, 5], name: page.sigma ? `±σᵗ, σ = ${number(page.sigma)}` : "±g(t)"},
  {curve: base.std, dash: [2, 4], name: "±s(t), standard deviation of the noise"},
].filter((envelope) => envelope.curve);

function axes(canvas) {
  const ratio = window.devicePixelRatio || 1, box = canvas.getBoundingClientRect();
  canvas.width = Math.round(box.width * ratio);
  canvas.height = Math.round(box.height * ratio);
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  const edge = {left: 46, right: 10, top: 8, bottom: 34};
  const bend = $("asinh").checked ? (v) => Math.asinh(v / 0.5) : (v) => v;
  const top = bend(extreme * 1.05), middle = (box.height - edge.top - edge.bottom) / 2;
  return {
    context, box, edge,
    x: (t) => edge.left + (t - base.t[0]) / (base.t[last] - base.t[0] || 1) * (box.width - edge.left - edge.right),
    y: (v) => edge.top + middle - bend(v) / top * middle,
  };
}

/* The smallest of 1, 2, 5, 10, 20, … that is not below x. */
function nice(x) {
  const decade = 10 ** Math.floor(Math.log10(x));
  return [1, 2, 5, 10].map((m) => m * decade).find((step) => step >= x * 0.999);
}
function multiples(low, high, step) {
  const found = [];
  for (let i = Math.ceil(low / step - 0.01); i * step <= high + 0.01 * step; i++) found.push(i * step);
  return found;
}
function valueTicks() {
  if (!$("asinh").checked) return multiples(-extreme, extreme, nice(extreme / 4));
  const decade = 10 ** Math.floor(Math.log10(extreme));
  const far = [0.1, 0.3, 1, 3].map((m) => m * decade).filter((v) => v <= extreme);
  return [0, ...far.flatMap((v) => [v, -v])];
}

function stroke(a, ts, ys, style, line, dash = []) {
  a.context.beginPath();
  ts.forEach((t, k) => a.context.lineTo(a.x(t), a.y(ys[k])));
  Object.assign(a.context, {strokeStyle: style, lineWidth: line, lineJoin: "round"});
  a.context.setLineDash(dash);
  a.context.stroke();
  a.context.setLineDash([]);
}

function drawChart() {
  const a = axes($("chart")), {context, box, edge} = a, p = active();
  Object.assign(context, {font: "12px system-ui, sans-serif", fillStyle: colour("--muted")});
  const ends = [base.t[0], base.t[last]];
  for (const v of valueTicks()) {
    stroke(a, ends, [v, v], colour("--grid"), 1);
    Object.assign(context, {textAlign: "right", textBaseline: "middle"});
    context.fillText(number(v), edge.left - 6, a.y(v));
  }
  Object.assign(context, {textAlign: "center", textBaseline: "top"});
  const [first, final] = [...ends].sort((s, t) => s - t);
  for (const t of multiples(first, final, nice((final - first) / 6)))
    context.fillText(number(t), a.x(t), box.height - edge.bottom + 6);
  context.fillText("t", edge.left + (box.width - edge.left - edge.right) / 2, box.height - 14);
  for (const {curve, dash} of envelopes()) for (const sign of [1, -1])
    stroke(a, base.t, curve.map((v) => sign * v), colour("--ink"), 1.2, dash);
  page.runs.forEach((run, index) => {
    const style = colour(`--run-${index % 4}`);
    if (run.denoised && $("denoised").checked)
      stroke(a, run.t, run.t.map((_, k) => guessed(run, k, p)), style, 1, [4, 3]);
    stroke(a, run.t, run.t.map((_, k) => value(run, k, p)), style, 1.6);
  });
  context.fillStyle = colour("--mark");
  context.fillRect(a.x(base.t[frame]) - 0.75, edge.top, 1.5, box.height - edge.top - edge.bottom);
  page.runs.forEach((run, index) => {
    const k = reached(run);
    context.beginPath();
    context.arc(a.x(run.t[k]), a.y(value(run, k, p)), 4.5, 0, 2 * Math.PI);
    Object.assign(context, {fillStyle: colour(`--run-${index % 4}`), strokeStyle: colour("--paper"), lineWidth: 1.5});
    context.fill();
    context.stroke();
  });
  const ended = page.runs.map((r) => `${r.method} from ${number(value(r, 0, p))} to ${number(value(r, r.t.length - 1, p))}`);
  $("chart").setAttribute("aria-label", `Value of the pixel against time: ${ended.join("; ")}. Now: ${description(p)}.`);
}

function writeLegend() {
  const entry = (style, dash, text) => {
    const item = document.createElement("li");
    item.innerHTML = `<svg viewBox="0 0 32 10" aria-hidden="true"><path d="M0 5h32" stroke="${style}"
      stroke-width="2" stroke-dasharray="${dash}"/></svg>`;
    item.append(text);
    $("legend").append(item);
  };
  page.runs.forEach((run, index) => entry(`var(--run-${index % 4})`, "", run.method));
  if (estimates) entry("var(--muted)", "4 3", "denoised estimate of the pixel");
  for (const {dash, name} of envelopes()) entry("var(--ink)", dash.join(" "), name);
}

function scrub(event) {
  const box = $("chart").getBoundingClientRect();
  const share = (event.clientX - box.left - 46) / (box.width - 56);
  const t = base.t[0] + share * (base.t[last] - base.t[0]);
  const nearest = base.t.reduce((best, u, k) => (Math.abs(u - t) < Math.abs(base.t[best] - t) ? k : best), 0);
  show(nearest);
}

// What can be done.

const clamp = (x, high) => Math.min(Math.max(x, 0), high);
function show(k) {
  frame = clamp(k, last);
  dirty = true;
  say();
}
function keep(p) {
  kept = {image: clamp(p.image, count - 1), row: clamp(p.row, height - 1),
    column: clamp(p.column, width - 1), channel: clamp(p.channel, channels - 1)};
  for (const name of ["image", "row", "column", "channel"]) $(name).value = kept[name] + 1;
  dirty = true;
  say();
}
function play(on) {
  playing = on;
  if (on && frame === last) frame = 0;
  clock = frame;
  $("play").textContent = on ? "Pause" : "Play";
  dirty = true;
  say();
}

/* A saved path of any length plays in eight seconds at speed 1. */
let clock = 0, before = 0;
function tick(now) {
  if (playing) {
    clock += Math.min(now - before, 100) / 8000 * last * Number($("speed").value);
    const next = clamp(Math.floor(clock), last);
    dirty ||= next !== frame;
    frame = next;
    if (frame === last) play(false);
  }
  before = now;
  if (dirty) draw();
  requestAnimationFrame(tick);
}

function draw() {
  dirty = false;
  for (const half of document.querySelectorAll(".halves > :nth-child(2)"))
    half.hidden = !$("denoised").checked;
  for (const run of page.runs) {
    const k = reached(run);
    drawSheet(run.view, run.states, k, run.span[k], $("shades").value === "data" ? [0, 1] : run.shades[k]);
    if (run.guess) {
      drawSheet(run.guess, run.denoised, k, [0, 1], [0, 1]);
    }
  }
  drawChart();
  $("time").value = frame;
  $("time").setAttribute("aria-valuetext", moment());
  $("now").textContent = moment();
}

$("time").max = last;
$("time").addEventListener("input", (event) => { play(false); show(Number(event.target.value)); });
$("play").addEventListener("click", () => play(!playing));
$("back").addEventListener("click", () => { play(false); show(frame - 1); });
$("forth").addEventListener("click", () => { play(false); show(frame + 1); });
for (const id of ["shades", "denoised", "asinh"]) $(id).addEventListener("change", () => { dirty = true; });
for (const [id, most] of [["image", count], ["row", height], ["column", width], ["channel", channels]]) {
  $(id).max = most;
  $(id).addEventListener("change", (event) => keep({...kept, [id]: Number(event.target.value) - 1}));
}
$("chart").addEventListener("pointerdown", (event) => {
  $("chart").setPointerCapture(event.pointerId);
  play(false);
  scrub(event);
});
$("chart").addEventListener("pointermove", (event) => { if (event.buttons) scrub(event); });
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const within = event.target.closest("button, select, summary, input:not([type=range])");
  const act = {" ": () => play(!playing), ",": () => show(frame - 1), ".": () => show(frame + 1),
    Home: () => show(0), End: () => show(last)}[event.key];
  if (!act || within) return;
  event.preventDefault();
  act();
});
window.addEventListener("resize", () => { dirty = true; });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { dirty = true; });
$("guess").hidden = !estimates;
$("one-channel").hidden = channels === 1;
writeLegend();
keep(kept);
requestAnimationFrame(tick);
