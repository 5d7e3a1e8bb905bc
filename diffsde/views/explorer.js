/* The state of the explorer, its chart, and what can be done. The pictures of states are drawn by
   explorer_images.js, explorer_plane.js or explorer_signals.js. All call a state's coordinates pixels,
   since points in the plane are stored as images of one row and two columns, and signals as images
   of one row. */
const page = JSON.parse(document.getElementById("data").textContent);
const extent = page.plane || page.signals;  // of the space that points or signals move through
const [count, channels, height, width] = page.shape;
const $ = (id) => document.getElementById(id);

// What is shown: everything below is drawn from this.
let frame = 0, playing = false, dirty = true;
let kept = {image: 0, row: height >> 1, column: width >> 1, channel: 0};
let pointed = null;  // the pixel under the mouse, shown instead of the kept one
let settled = false;  // whether a pixel was chosen since the mouse came to the picture

const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const values = (text) => (extent ? new Uint16Array(bytes(text).buffer) : bytes(text));
const levels = extent ? 65535 : 255;
for (const run of page.runs) {
  run.states = values(run.states);
  run.denoised = run.denoised && values(run.denoised);
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
function restored(data, [low, high], k, p) {
  return low + data[place(k, p)] / levels * (high - low);
}
const value = (run, k, p) => restored(run.states, run.span[k], k, p);
const guessed = (run, k, p) => restored(run.denoised, run.guess_span[k], k, p);
const active = () => pointed || kept;

function number(x) {
  const text = Math.abs(x) < 0.0005 ? "0" : Number(x.toPrecision(3)).toString();
  return text.replace("-", "−");
}
const noise = (run, k) => (run.std ? `, s(t) = ${number(run.std[k])}` : "");
const moment = () => `t = ${base.t[frame].toFixed(3)}${noise(base, frame)}`;
const among = (p) => (channels > 1 ? `, channel ${p.channel + 1}` : "");
const named = (p) => (page.plane ? `Point ${p.image + 1}`
  : page.signals ? `Signal ${p.image + 1}, position ${p.column + 1}${among(p)}`
  : `Image ${p.image + 1}, row ${p.row + 1}, column ${p.column + 1}${among(p)}`);
/* The charts: each shows one coordinate of what is chosen. */
const charts = page.plane
  ? [{id: "chart", of: (p) => ({...p, column: 0}), name: "x₁(t)"}, {id: "chart-2", of: (p) => ({...p, column: 1}), name: "x₂(t)"}]
  : [{id: "chart", of: (p) => p, name: "x(t)"}];
function valueText(run, k, p) {
  const found = charts.map((chart) => number(value(run, k, chart.of(p))));
  return found.length > 1 ? `(${found.join(", ")})` : found[0];
}
const description = (p) => `${named(p)}: ` + page.runs.map((r) => `${r.method} ${valueText(r, reached(r), p)}`).join(", ");

/* Words for a screen reader, once things have come to rest. */
let saying;
function say() {
  clearTimeout(saying);
  saying = setTimeout(() => { if (!playing) $("said").textContent = `${moment()}. ${description(kept)}`; }, 400);
}

// The pictures.

/* Half of what points or signals span on the screen: the data with the noise of this moment, or all paths. */
function reach(run, k, guess) {
  const {near, far} = extent;
  if ($("scale").value === "far" || !run.std) return far;
  return Math.min(far, near + (guess ? 0 : 2.5 * run.std[k]));
}

/* Let the pointer and the keyboard choose a pixel. */
function choosing(holder, canvas, pixelAt, steps) {
  holder.addEventListener("pointerenter", () => { settled = false; });
  holder.addEventListener("pointermove", (event) => {
    const pixel = pixelAt(event);
    if (event.pointerType !== "mouse") { if (pixel) keep(pixel); }
    else if (!settled) pointed = pixel;
    dirty = true;
  });
  holder.addEventListener("pointerdown", (event) => { const pixel = pixelAt(event); if (pixel) keep(pixel); });
  holder.addEventListener("pointerleave", () => { pointed = null; dirty = true; });
  canvas.addEventListener("keydown", (event) => {
    const step = steps[event.key];
    if (!step) return;
    event.preventDefault();
    keep({...kept, [step[0]]: kept[step[0]] + step[1]});
  });
}

const estimates = page.runs.some((run) => run.denoised);
const view = page.plane ? plane : page.signals ? signals : sheet;
document.body.classList.toggle("plane", Boolean(page.plane));
document.body.classList.toggle("wide", !extent && wideSheet());
document.body.classList.toggle("one", page.runs.length === 1);
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
  const half = (what, text) => {
    const made = view(run, index, what);
    if (estimates) made.box.prepend(Object.assign(document.createElement("small"), {textContent: text}));
    halves.append(made.box);
    return made;
  };
  run.view = half("States x(t)", "x(t)");
  if (run.denoised) run.guess = half("Denoised estimates", "x̂₀ = E[x(0) | x(t)]");
  // A run without estimates leaves their room empty, so that images of all runs are alike.
  else if (estimates) halves.append(document.createElement("div"));
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

function drawChart(chart) {
  const a = axes($(chart.id)), {context, box, edge} = a, p = chart.of(active());
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
  Object.assign(context, {textAlign: "left"});
  context.fillText(chart.name, edge.left + 6, edge.top);
  Object.assign(context, {textAlign: "center"});
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
  $(chart.id).setAttribute("aria-label", `${chart.name} of ${named(p)} against time: ${ended.join("; ")}. Now: ${description(p)}.`);
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
  if (estimates) entry("var(--muted)", "4 3", `denoised estimate of the ${page.plane ? "point" : page.signals ? "value" : "pixel"}`);
  for (const {dash, name} of envelopes()) entry("var(--ink)", dash.join(" "), name);
}

function scrub(event) {
  const box = event.currentTarget.getBoundingClientRect();
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
  pointed = null;
  settled = dirty = true;
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
    run.view.draw(run.states, run.span, k, false);
    if (run.guess && $("denoised").checked) run.guess.draw(run.denoised, run.guess_span, k, true);
  }
  charts.forEach(drawChart);
  $("time").value = frame;
  $("time").setAttribute("aria-valuetext", moment());
  $("now").textContent = moment();
}

$("time").max = last;
$("time").addEventListener("input", (event) => { play(false); show(Number(event.target.value)); });
$("play").addEventListener("click", () => play(!playing));
$("back").addEventListener("click", () => { play(false); show(frame - 1); });
$("forth").addEventListener("click", () => { play(false); show(frame + 1); });
for (const id of ["shades", "scale", "denoised", "asinh"]) $(id).addEventListener("change", () => { dirty = true; });
for (const [id, most] of [["image", count], ["row", height], ["column", width], ["channel", channels]]) {
  $(id).max = most;
  $(id).addEventListener("change", (event) => keep({...kept, [id]: Number(event.target.value) - 1}));
}
for (const {id} of charts) {
  $(id).addEventListener("pointerdown", (event) => {
    event.currentTarget.setPointerCapture(event.pointerId);
    play(false);
    scrub(event);
  });
  $(id).addEventListener("pointermove", (event) => { if (event.buttons) scrub(event); });
}
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
const kind = page.plane ? "of-points" : page.signals ? "of-signals" : "of-images";
for (const part of document.querySelectorAll(".of-images, .of-points, .of-signals"))
  part.hidden = !part.classList.contains(kind);
if (extent) $("which").firstChild.data = page.plane ? "Point " : "Signal ";
if (page.signals) $("where").firstChild.data = "Position ";
if (page.batch > count) $("some").textContent = `The first ${count} of ${page.batch} signals are here.`;
$("some").hidden = page.batch <= count;
$("guess").hidden = !estimates;
if (!base.std) $("scaling").hidden = true;
$("one-channel").hidden = channels === 1;
writeLegend();
keep(kept);
requestAnimationFrame(tick);
