/* The states of a run as points in the plane, with the whole path of the chosen one. */
const NEAR = 28;  // screen pixels within which the pointer finds a point

/* The coordinates of a point in frame k. */
const pointOf = (data, spans, k, image) =>
  [0, 1].map((column) => restored(data, spans[k], k, {image, row: 0, column, channel: 0}));

/* From coordinates to screen pixels; the axes are equally long, so circles stay circles. */
function planeFrame(canvas, half) {
  const ratio = window.devicePixelRatio || 1, side = canvas.getBoundingClientRect().width;
  canvas.width = canvas.height = Math.round(side * ratio);
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  const [cx, cy] = extent.centre, scale = side / (2.1 * half);
  return {context, side, half, at: ([x, y]) => [side / 2 + (x - cx) * scale, side / 2 - (y - cy) * scale]};
}

function plane(run, index, what) {
  const box = document.createElement("div");
  box.innerHTML = `<div class="sheet"><canvas class="points" tabindex="0" role="application"></canvas></div>`;
  const canvas = box.querySelector("canvas");
  canvas.setAttribute("aria-label",
    `${what} of ${run.method}: ${count} points in the plane. Arrow keys choose a point.`);
  let shown = [];  // where each point stands on the screen
  const pixelAt = (event) => {
    const rect = canvas.getBoundingClientRect();
    const far = ([x, y]) => Math.hypot(x - event.clientX + rect.left, y - event.clientY + rect.top);
    const image = shown.reduce((best, place, i) => (far(place) < far(shown[best]) ? i : best), 0);
    return shown.length && far(shown[image]) < NEAR ? {...kept, image} : null;
  };
  const [next, previous] = [["image", 1], ["image", -1]];
  choosing(box.querySelector(".sheet"), canvas, pixelAt, {
    ArrowRight: next, ArrowUp: next, "]": next, ArrowLeft: previous, ArrowDown: previous, "[": previous,
  });
  const draw = (data, spans, k, guess) => {
    const f = planeFrame(canvas, reach(run, k, guess));
    drawGrid(f);
    shown = Array.from({length: count}, (_, image) => f.at(pointOf(data, spans, k, image)));
    const size = Math.max(1.3, Math.min(4, 50 / Math.sqrt(count)));
    f.context.globalAlpha = 0.6;
    const fill = colour(`--run-${index % 4}`);
    for (const place of shown) disc(f.context, place, size, fill);
    f.context.globalAlpha = 1;
    const {image} = active();
    drawTrail(f, run.t.map((_, j) => f.at(pointOf(data, spans, j, image))), k);
    disc(f.context, shown[image], size + 3, colour("--mark"), colour("--paper"));
  };
  return {box, draw};
}

function disc(context, [x, y], radius, fill, rim) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fillStyle = fill;
  context.fill();
  if (!rim) return;
  Object.assign(context, {strokeStyle: rim, lineWidth: 1.5});
  context.stroke();
}

/* The way so far, and faintly the way to come. */
function drawTrail({context}, places, k) {
  Object.assign(context, {strokeStyle: colour("--mark"), lineJoin: "round", lineWidth: 1.6});
  for (const [from, to, alpha] of [[0, k, 0.9], [k, places.length - 1, 0.3]]) {
    context.globalAlpha = alpha;
    context.beginPath();
    for (let j = from; j <= to; j++) context.lineTo(...places[j]);
    context.stroke();
  }
  context.globalAlpha = 1;
}

function drawGrid({context, side, half, at}) {
  const [cx, cy] = extent.centre, step = nice(half / 2);
  Object.assign(context, {font: "12px system-ui, sans-serif", fillStyle: colour("--muted"),
    strokeStyle: colour("--grid"), lineWidth: 1, textBaseline: "bottom"});
  const line = (x, y, right, down) => {
    context.beginPath();
    context.moveTo(x, y);
    context.lineTo(right, down);
    context.stroke();
  };
  for (const v of multiples(cx - half, cx + half, step)) {
    const [x] = at([v, cy]);
    line(x, 0, x, side);
    context.textAlign = "center";
    if (x < side - 30) context.fillText(number(v), x, side - 3);
  }
  for (const v of multiples(cy - half, cy + half, step)) {
    const [, y] = at([cx, v]);
    line(0, y, side, y);
    context.textAlign = "left";
    if (y > 34) context.fillText(number(v), 4, y - 2);
  }
  context.fillStyle = colour("--ink");
  context.fillText("x₂", 4, 16);
  context.textAlign = "right";
  context.fillText("x₁", side - 4, side - 3);
}
