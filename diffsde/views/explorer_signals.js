/* The states of a run as lines in a grid of cells, in which one value of one signal is marked. */
const CELL_GAP = 8;  // screen pixels between cells

/* Where the cells are on the screen, and from values to pixels within one of them. */
function signalFrame(canvas, half) {
  const ratio = window.devicePixelRatio || 1, box = canvas.getBoundingClientRect();
  canvas.width = Math.round(box.width * ratio);
  canvas.height = Math.round(box.height * ratio);
  const context = canvas.getContext("2d"), [centre] = extent.centre;
  context.scale(ratio, ratio);
  const down = (box.height + CELL_GAP) / Math.ceil(count / page.columns);
  const across = (box.width + CELL_GAP) / page.columns;
  const size = {wide: across - CELL_GAP, high: down - CELL_GAP};
  return {context, half, ...size, down, across,
    corner: (image) => [image % page.columns * across, Math.floor(image / page.columns) * down],
    x: (j) => 4 + (width > 1 ? j / (width - 1) : 0.5) * (size.wide - 8),
    y: (v) => size.high * (0.5 - (v - centre) / (2 * half))};
}

function signals(run, index, what) {
  const box = document.createElement("div");
  box.innerHTML = `<div class="sheet"><canvas class="lines" tabindex="0" role="application"></canvas></div>`;
  const canvas = box.querySelector("canvas");
  const cell = extent.aspect / (estimates ? 1.4 : 1);  // beside estimates, cells are narrow
  canvas.style.aspectRatio = page.columns * cell / Math.ceil(count / page.columns);
  canvas.setAttribute("aria-label", `${what} of ${run.method}: ${count} signals. `
    + "The left and right arrow keys choose a position, brackets a signal.");
  let f, valueAt;  // of the last drawing
  const pixelAt = (event) => {
    const rect = canvas.getBoundingClientRect();
    const x = event.clientX - rect.left, y = event.clientY - rect.top;
    const image = Math.floor(y / f.down) * page.columns + Math.floor(x / f.across);
    if (x < 0 || y < 0 || x >= rect.width || image >= count) return null;
    const [left, top] = f.corner(image), last = width - 1;
    const column = clamp(Math.round((x - left - 4) / (f.wide - 8) * last), last);
    const off = (channel) => Math.abs(f.y(valueAt({image, row: 0, column, channel})) - y + top);
    const channel = [...Array(channels).keys()].reduce((best, c) => (off(c) < off(best) ? c : best), 0);
    return {image, row: 0, column, channel};
  };
  const [next, previous] = [["image", 1], ["image", -1]];
  choosing(box.querySelector(".sheet"), canvas, pixelAt, {
    ArrowRight: ["column", 1], ArrowLeft: ["column", -1],
    ArrowDown: next, "]": next, ArrowUp: previous, "[": previous,
  });
  const draw = (data, spans, k, guess) => {
    f = signalFrame(canvas, reach(run, k, guess));
    valueAt = (p) => restored(data, spans[k], k, p);
    for (let image = 0; image < count; image++) drawSignal(f, image, valueAt, colour(`--run-${index % 4}`));
  };
  return {box, draw};
}

function drawSignal(f, image, valueAt, style) {
  const {context} = f, p = active(), chosen = image === p.image;
  context.save();
  context.translate(...f.corner(image));
  context.beginPath();
  context.rect(0, 0, f.wide, f.high);
  context.clip();
  if (chosen) Object.assign(context, {fillStyle: colour("--panel")}).fillRect(0, 0, f.wide, f.high);
  drawLevels(f, image % page.columns === 0);
  if (chosen) drawPole(f, p.column);
  for (let channel = 0; channel < channels; channel++) {
    context.globalAlpha = channel === p.channel ? 1 : 0.4;
    drawLine(f, (column) => valueAt({image, row: 0, column, channel}), style);
  }
  context.globalAlpha = 1;
  if (chosen) disc(context, [f.x(p.column), f.y(valueAt(p))], 4.5, colour("--mark"), colour("--paper"));
  context.restore();
}

/* Lines at round values, and in the first column their numbers. */
function drawLevels({context, half, wide, high, y}, labelled) {
  const [centre] = extent.centre;
  Object.assign(context, {font: "11px system-ui, sans-serif", fillStyle: colour("--muted"),
    textAlign: "left", textBaseline: "bottom", lineWidth: 1});
  for (const v of multiples(centre - half, centre + half, nice(half / 2.5))) {
    context.strokeStyle = colour(v === 0 ? "--muted" : "--grid");
    context.beginPath();
    context.moveTo(0, y(v));
    context.lineTo(wide, y(v));
    context.stroke();
    if (labelled && high > 70 && wide > 120 && y(v) > 12) context.fillText(number(v), 2, y(v) - 1);
  }
}

/* The position that is chosen. */
function drawPole({context, high, x}, column) {
  Object.assign(context, {fillStyle: colour("--mark")});
  context.fillRect(x(column) - 0.5, 0, 1, high);
}

function drawLine({context, x, y}, valueOf, style) {
  Object.assign(context, {strokeStyle: style, lineWidth: 1.6, lineJoin: "round"});
  context.beginPath();
  for (let j = 0; j < width; j++) context.lineTo(x(j), y(valueOf(j)));
  context.stroke();
  if (width * 14 > x(width - 1) - x(0) + 14) return;
  for (let j = 0; j < width; j++) disc(context, [x(j), y(valueOf(j))], 2.5, style);
}
