// Loss and error on the plane through three models, as filled contours.

const BANDS = 12;
// Cividis (Nuñez, Anderton and Renslow 2018), which the colour-blind see as others do.
const COLOURS = ['#00224e', '#123570', '#3b496c', '#575d6d', '#707173', '#8a8678', '#a59c74', '#c3b369', '#e1cc55', '#fee838'];

function planeCharts(record) {
  const charts = document.getElementById('planes-charts');
  if (!charts) return;
  const splits = Object.keys(record.task.splits).filter((name) => record.planes.some((p) => p.split === name));
  const state = { split: splits[0], measure: 'loss' };
  const redraw = () => drawPlanes(charts, record, state);
  const set = (key) => (value) => {
    state[key] = value;
    redraw();
  };
  const controls = document.getElementById('planes-controls');
  controls.append(choice('Shown', 'planes-measure', [['loss', 'Loss'], ['error', 'Error']], state.measure, set('measure')));
  if (splits.length > 1) {
    controls.append(choice('Split', 'planes-split', splits.map((s) => [s, s]), state.split, set('split')));
  }
  onWidth(charts, redraw);
}

function drawPlanes(charts, record, state) {
  const planes = record.planes
    .filter((plane) => plane.split === state.split)
    .sort((a, b) => NUMBERINGS.indexOf(a.numbering) - NUMBERINGS.indexOf(b.numbering));
  const levels = planeLevels(planes, state.measure);
  charts.replaceChildren();
  const side = charts.clientWidth >= 640 && planes.length > 1 ? 2 : 1;
  const width = Math.min(460, Math.floor((charts.clientWidth - 28 * (side - 1)) / side));
  for (const plane of planes) charts.append(planeFigure(plane, state.measure, levels, width));
  drawScale(levels, state.measure);
}

/** Levels between bands: even steps, or even ratios where values span more than a factor of 20. */
function planeLevels(planes, measure) {
  const values = planes.flatMap((plane) => plane[measure].flat()).filter((value) => value !== null);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const log = low > 0 && high / low > 20;
  const at = (share) => (log ? low * (high / low) ** share : low + (high - low) * share);
  return Array.from({ length: BANDS + 1 }, (_, k) => at(k / BANDS));
}

function bandOf(value, levels) {
  let band = 0;
  while (band < BANDS - 1 && value >= levels[band + 1]) band += 1;
  return band;
}

function bandColour(band) {
  const place = (band / (BANDS - 1)) * (COLOURS.length - 1);
  const [low, high] = [COLOURS[Math.floor(place)], COLOURS[Math.ceil(place)]];
  const part = (text, k) => parseInt(text.slice(1 + 2 * k, 3 + 2 * k), 16);
  return [0, 1, 2].map((k) => Math.round(part(low, k) + (part(high, k) - part(low, k)) * (place % 1)));
}

/** Where a value lies in a rising list, as a whole number and a part of one. */
function cellOf(values, value) {
  let k = 0;
  while (k < values.length - 2 && value >= values[k + 1]) k += 1;
  return [k, (value - values[k]) / (values[k + 1] - values[k] || 1)];
}

function planeFigure(plane, measure, levels, width) {
  const span = [plane.x.at(-1) - plane.x[0] || 1, plane.y.at(-1) - plane.y[0] || 1];
  const height = Math.round((width * span[1]) / span[0]);
  const canvas = make('canvas', { width, height, 'aria-hidden': 'true' });
  paintPlane(canvas, plane, measure, levels);
  const x = scale(plane.x[0], plane.x.at(-1), 0, width);
  const y = scale(plane.y[0], plane.y.at(-1), height, 0);
  const svg = draw('svg', {
    width, height, viewBox: `0 0 ${width} ${height}`, tabindex: 0, role: 'application',
    'aria-label': `${measure} on the ${plane.numbering} plane; move with the arrow keys`,
  });
  for (const [letter, [cx, cy]] of Object.entries(plane.corners)) {
    svg.append(
      draw('circle', { cx: x(cx), cy: y(cy), r: 5, class: 'corner' }),
      draw('text', { x: x(cx) + 9, y: y(cy) - 7, class: 'corner' }, letter),
    );
  }
  const cursor = draw('circle', { r: 5, cx: -20, cy: -20, class: 'cursor' });
  svg.append(cursor);
  listenToPlane(svg, cursor, plane, x, y);
  const box = make('div', { class: 'plane' }, canvas, svg);
  return make('figure', {}, make('figcaption', {}, plane.numbering), box);
}

/** Colour every pixel by the band of the value interpolated between the four points around it. */
function paintPlane(canvas, plane, measure, levels) {
  const { width, height } = canvas;
  const context = canvas.getContext('2d');
  const image = context.createImageData(width, height);
  const rows = plane[measure];
  const colours = Array.from({ length: BANDS }, (_, band) => bandColour(band));
  const step = (values, k, count) => values[0] + ((values.at(-1) - values[0]) * (k + 0.5)) / count;
  const across = Array.from({ length: width }, (_, k) => cellOf(plane.x, step(plane.x, k, width)));
  const right = Math.min(1, plane.x.length - 1);
  const above = Math.min(1, plane.y.length - 1);
  for (let line = 0; line < height; line += 1) {
    const [j, t] = cellOf(plane.y, step(plane.y, height - 1 - line, height));
    for (let k = 0; k < width; k += 1) {
      const [i, s] = across[k];
      const around = [rows[j][i], rows[j][i + right], rows[j + above][i], rows[j + above][i + right]];
      if (around.includes(null)) continue;
      const value = (1 - t) * ((1 - s) * around[0] + s * around[1]) + t * ((1 - s) * around[2] + s * around[3]);
      image.data.set([...colours[bandOf(value, levels)], 255], 4 * (line * width + k));
    }
  }
  context.putImageData(image, 0, 0);
}

function listenToPlane(svg, cursor, plane, x, y) {
  let at = [Math.floor(plane.x.length / 2), Math.floor(plane.y.length / 2)];
  const nearest = (values, place, to) => {
    const distances = values.map((value) => Math.abs(to(value) - place));
    return distances.indexOf(Math.min(...distances));
  };
  const tell = () => {
    const [i, j] = at;
    const frame = svg.getBoundingClientRect();
    const [px, py] = [x(plane.x[i]), y(plane.y[j])];
    cursor.setAttribute('cx', px);
    cursor.setAttribute('cy', py);
    const rows = ['loss', 'error'].map((measure) => [null, measure, showValue(measure, plane[measure][j][i]), false]);
    const title = `x ${plane.x[i].toFixed(2)}, y ${plane.y[j].toFixed(2)}`;
    showTooltip(title, rows, frame.left + px, frame.top + py);
    return `${title}: ${rows.map(([, name, value]) => `${name} ${value}`).join(', ')}`;
  };
  const follow = (event) => {
    const frame = svg.getBoundingClientRect();
    at = [nearest(plane.x, event.clientX - frame.left, x), nearest(plane.y, event.clientY - frame.top, y)];
    tell();
  };
  const leave = () => {
    cursor.setAttribute('cx', -20);
    hideTooltip();
  };
  svg.addEventListener('pointermove', follow);
  svg.addEventListener('pointerdown', follow);
  svg.addEventListener('pointerleave', (event) => event.pointerType !== 'touch' && leave());
  svg.addEventListener('blur', leave);
  svg.addEventListener('keydown', (event) => {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    if (event.key === 'Escape') leave();
    if (!(event.key in steps)) return;
    event.preventDefault();
    const move = (k, count) => Math.max(0, Math.min(count - 1, at[k] + steps[event.key][k]));
    at = [move(0, plane.x.length), move(1, plane.y.length)];
    speak(tell());
  });
}

function drawScale(levels, measure) {
  const place = document.getElementById('planes-scale');
  const width = Math.min(460, place.clientWidth);
  const svg = draw('svg', { width, height: 40, viewBox: `0 0 ${width} 40`, role: 'img', 'aria-label': `colours of the ${measure}` });
  const x = scale(0, BANDS, 24, width - 24);
  for (let band = 0; band < BANDS; band += 1) {
    svg.append(draw('rect', { x: x(band), y: 0, width: x(1) - x(0) + 0.5, height: 14, fill: `rgb(${bandColour(band)})` }));
  }
  for (const band of [0, 4, 8, 12]) {
    const text = measure === 'loss' ? Number(levels[band].toPrecision(2)).toString() : showValue(measure, levels[band]);
    svg.append(draw('text', { x: x(band), y: 30, 'text-anchor': 'middle' }, text));
  }
  place.replaceChildren(svg);
}
