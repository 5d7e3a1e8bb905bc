/* The states of a run as a sheet of images, in which one pixel is marked. */
const sheetSize = () => {
  const rows = Math.ceil(count / page.columns);
  return [page.columns * (width + 1) - 1, rows * (height + 1) - 1];
};
function wideSheet() {
  const [across, down] = sheetSize();
  return across > 2.5 * down;
}

function sheet(run, index, what) {
  const [sheetWidth, sheetHeight] = sheetSize();
  const box = document.createElement("div");
  box.innerHTML = `<div class="sheet"><canvas tabindex="0" role="application"></canvas><div class="mark"></div></div>`;
  const canvas = box.querySelector("canvas");
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
  choosing(box.querySelector(".sheet"), canvas, pixelAt, {
    ArrowUp: ["row", -1], ArrowDown: ["row", 1], ArrowLeft: ["column", -1], ArrowRight: ["column", 1],
    "[": ["image", -1], "]": ["image", 1],
  });
  const context = canvas.getContext("2d"), picture = new ImageData(sheetWidth, sheetHeight);
  const mark = box.querySelector(".mark");
  const draw = (data, spans, k, guess) => {
    const fixed = guess || $("shades").value === "data";
    fillSheet(picture, data, spans[k], k, fixed ? run.range : run.shades[k]);
    context.putImageData(picture, 0, 0);
    placeMark(mark, sheetWidth, sheetHeight);
  };
  return {box, draw};
}

function fillSheet(picture, data, span, k, shades) {
  // One shade for each of the 256 stored values.
  const shade = new Uint8ClampedArray(256);
  for (let q = 0; q < 256; q++) {
    const x = span[0] + q / 255 * (span[1] - span[0]);
    shade[q] = (x - shades[0]) / (shades[1] - shades[0]) * 255;
  }
  const pixels = picture.data, area = height * width;
  for (let image = 0; image < count; image++) {
    const start = (k * count + image) * channels * area;
    const y = Math.floor(image / page.columns) * (height + 1), x = image % page.columns * (width + 1);
    for (let i = 0; i < height; i++) for (let j = 0; j < width; j++) {
      const to = ((y + i) * picture.width + x + j) * 4, from = start + i * width + j;
      for (let c = 0; c < 3; c++) pixels[to + c] = shade[data[from + (channels > 1 ? c * area : 0)]];
      pixels[to + 3] = 255;
    }
  }
}

function placeMark(mark, sheetWidth, sheetHeight) {
  const p = active(), percent = (part, whole) => `${100 * part / whole}%`;
  Object.assign(mark.style, {
    left: percent(p.image % page.columns * (width + 1) + p.column, sheetWidth),
    top: percent(Math.floor(p.image / page.columns) * (height + 1) + p.row, sheetHeight),
    width: percent(1, sheetWidth), height: percent(1, sheetHeight),
  });
}
