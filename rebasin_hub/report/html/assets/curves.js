// Loss and error along the straight line from A to B.

const TREATMENTS = ['as is', 'recomputed', 'repair', 'calibrated'];
const NUMBERINGS = ['naive', 'aligned'];

const curveName = (curve) => `${curve.numbering}, ${curve.treatment}`;
const curveClass = (curve) => `curve ${curve.numbering} ${curve.treatment.replace(' ', '-')}`;

function curvesChart(record) {
  const chart = document.getElementById('curves-chart');
  if (!chart) return;
  const splits = Object.keys(record.task.splits).filter((name) => record.curves.some((c) => c.split === name));
  const present = TREATMENTS.filter((name) => record.curves.some((c) => c.treatment === name));
  // Few enough lines to be read at once; the legend adds the others.
  const first = present.length <= 2 ? present : present.filter((name) => ['as is', 'repair'].includes(name));
  const shown = new Set(record.curves.filter((c) => first.includes(c.treatment)).map(curveName));
  const state = { split: splits[0], measure: 'loss', log: false, width: 0, point: null };
  const redraw = () => {
    if (state.width) drawCurves(chart, record, state, shown);
  };
  curveControls(record, splits, state, redraw);
  curveLegend(record, present, shown, redraw);
  onWidth(chart, (width) => {
    state.width = width;
    redraw();
  });
}

function curveControls(record, splits, state, redraw) {
  const set = (key) => (value) => {
    state[key] = value;
    redraw();
  };
  const controls = document.getElementById('curves-controls');
  const measures = [['loss', 'Loss'], ['error', 'Error']];
  controls.append(choice('Shown', 'curves-measure', measures, state.measure, set('measure')));
  if (splits.length > 1) {
    controls.append(choice('Split', 'curves-split', splits.map((s) => [s, s]), state.split, set('split')));
  }
  controls.append(toggle('Log scale', false, set('log'), { id: 'curves-log' }));
}

function curveLegend(record, present, shown, redraw) {
  const legend = document.getElementById('curves-legend');
  for (const numbering of NUMBERINGS) {
    const column = make('fieldset', {}, make('legend', {}, numbering === 'naive' ? 'B as trained (naive)' : 'B aligned to A'));
    for (const treatment of present) {
      const curve = record.curves.find((c) => c.numbering === numbering && c.treatment === treatment);
      if (!curve) continue;
      const line = draw('line', { x1: 1, y1: 5, x2: 27, y2: 5, class: curveClass(curve) });
      const swatch = draw('svg', { viewBox: '0 0 28 10', class: 'swatch', 'aria-hidden': 'true' }, line);
      const label = make('span', {}, swatch, treatment);
      const change = (on) => {
        if (on) shown.add(curveName(curve));
        else shown.delete(curveName(curve));
        redraw();
      };
      column.append(toggle(label, shown.has(curveName(curve)), change, { 'data-curve': curveName(curve) }));
    }
    if (column.children.length > 1) legend.append(column);
  }
}

/** Everything that one drawing needs to know. */
function curveLayout(record, state, shown) {
  const { measure, split, width } = state;
  const curves = record.curves.filter((c) => c.split === split && shown.has(curveName(c)));
  const baselines = record.baselines.filter((b) => b.split === split && b[measure] !== null);
  const values = [...curves.flatMap((c) => c[measure]), ...baselines.map((b) => b[measure])].filter((v) => v !== null);
  const positive = values.filter((v) => v > 0);
  const log = state.log && positive.length > 0;
  const top = Math.max(...(log ? positive : values), log ? -Infinity : 0);
  const bottom = Math.min(...(log ? positive : values), log ? Infinity : 0);
  const high = top > bottom ? top : bottom + 1;
  const height = Math.max(260, Math.min(420, width * 0.5));
  const box = { left: 52, right: width - 66, top: 14, bottom: height - 40 };
  const span = log ? [bottom / 1.15, high * 1.15] : [bottom, bottom + (high - bottom) * 1.05];
  const x = scale(record.lambdas[0], record.lambdas.at(-1), box.left, box.right);
  const y = scale(...span, box.bottom, box.top, log);
  return { record, measure, curves, baselines, log, height, width, box, span, x, y };
}

const visible = (layout, value) => value !== null && (!layout.log || value > 0);

function drawCurves(chart, record, state, shown) {
  const layout = curveLayout(record, state, shown);
  const { width, height, curves, measure, x, y } = layout;
  const svg = draw('svg', {
    width, height, viewBox: `0 0 ${width} ${height}`, tabindex: 0, role: 'slider',
    'aria-label': `${measure} along the line on ${state.split}; move with the arrow keys`,
    'aria-orientation': 'horizontal', 'aria-valuemin': 0, 'aria-valuemax': 1, 'aria-valuenow': 0,
  });
  svg.append(curveAxes(layout), curveBaselines(layout));
  for (const curve of curves) {
    const points = record.lambdas.map((lambda, k) => (visible(layout, curve[measure][k]) ? [x(lambda), y(curve[measure][k])] : null));
    svg.append(draw('path', { d: pathData(points), class: curveClass(curve), 'data-curve': curveName(curve) }));
  }
  svg.append(...curves.map((curve) => barrierMark(layout, curve)).filter(Boolean));
  const pointer = draw('g', { class: 'pointer' });
  svg.append(pointer);
  const hadFocus = chart.contains(document.activeElement);
  chart.replaceChildren(svg);
  listenToCurves(svg, pointer, layout, state);
  if (hadFocus) svg.focus();
}

function curveAxes(layout) {
  const { box, x, y, span, log, measure, record, height } = layout;
  const axes = draw('g', { class: 'axes' });
  const count = Math.max(3, Math.round((box.bottom - box.top) / 60));
  for (const { value, step } of (log ? logTicks : linearTicks)(...span, count)) {
    axes.append(
      draw('line', { x1: box.left, x2: box.right, y1: y(value), y2: y(value), class: 'grid' }),
      draw('text', { x: box.left - 8, y: y(value) + 4, 'text-anchor': 'end' }, showTick(measure, value, step)),
    );
  }
  for (const lambda of [0, 0.25, 0.5, 0.75, 1]) {
    const text = lambda === 0 ? 'A' : lambda === 1 ? 'B' : String(lambda);
    axes.append(draw('text', { x: x(lambda), y: box.bottom + 18, 'text-anchor': 'middle' }, text));
  }
  const name = measure === 'loss' ? record.task.loss : record.task.error;
  axes.append(
    draw('text', { x: (box.left + box.right) / 2, y: height - 4, 'text-anchor': 'middle', class: 'title' }, 'λ'),
    draw('title', {}, name),
  );
  return axes;
}

/** The ends and the ensemble, as lines across, with names that keep clear of each other. */
function curveBaselines(layout) {
  const { baselines, box, y, measure } = layout;
  const group = draw('g', { class: 'baselines' });
  let last = -Infinity;
  const drawn = baselines.filter((b) => visible(layout, b[measure])).sort((a, b) => b[measure] - a[measure]);
  const lowest = box.bottom + 4 - 13 * (drawn.length - 1);
  drawn.forEach((baseline, k) => {
    const level = y(baseline[measure]);
    last = Math.max(Math.min(level + 4, lowest + 13 * k), last + 13);
    group.append(
      draw('line', { x1: box.left, x2: box.right, y1: level, y2: level, class: baseline.name }),
      draw('text', { x: box.right + 8, y: last }, baseline.name),
    );
  });
  return group;
}

/** The barrier: the largest height of a curve over the straight line between its ends. */
function barrierMark(layout, curve) {
  const { record, measure, x, y, log } = layout;
  const values = curve[measure];
  const [first, last] = [values[0], values.at(-1)];
  if (values.includes(null)) return null;
  const base = record.lambdas.map((lambda) => (1 - lambda) * first + lambda * last);
  const rises = values.map((value, k) => value - base[k]);
  const k = rises.indexOf(Math.max(...rises));
  if (!(rises[k] > 0) || (log && base[k] <= 0)) return null;
  const [top, bottom, place] = [y(values[k]), y(base[k]), x(record.lambdas[k])];
  if (bottom - top < 2) return null;
  const group = draw('g', { class: `barrier ${curve.numbering}`, 'data-barrier': curveName(curve) });
  group.append(
    draw('line', { x1: place, x2: place, y1: top, y2: bottom }),
    draw('line', { x1: place - 4, x2: place + 4, y1: bottom, y2: bottom }),
    draw('title', {}, `barrier ${showValue(measure, rises[k])} (${curveName(curve)})`),
  );
  return group;
}

function listenToCurves(svg, pointer, layout, state) {
  const { record, x, box } = layout;
  const at = (event) => {
    const frame = svg.getBoundingClientRect();
    const place = event.clientX - frame.left;
    const distances = record.lambdas.map((lambda) => Math.abs(x(lambda) - place));
    markPoint(svg, pointer, layout, distances.indexOf(Math.min(...distances)), event.clientY - frame.top);
  };
  const leave = () => {
    pointer.replaceChildren();
    hideTooltip();
  };
  svg.addEventListener('pointermove', at);
  svg.addEventListener('pointerdown', at);
  svg.addEventListener('pointerleave', (event) => event.pointerType !== 'touch' && leave());
  svg.addEventListener('blur', leave);
  svg.addEventListener('keydown', (event) => {
    const last = record.lambdas.length - 1;
    const now = state.point ?? Math.round(last / 2);
    const keys = {
      ArrowLeft: now - 1, ArrowDown: now - 1, ArrowRight: now + 1, ArrowUp: now + 1,
      PageDown: now - 5, PageUp: now + 5, Home: 0, End: last,
    };
    if (event.key === 'Escape') leave();
    if (!(event.key in keys)) return;
    event.preventDefault();
    state.point = Math.max(0, Math.min(last, keys[event.key]));
    markPoint(svg, pointer, layout, state.point, (box.top + box.bottom) / 2);
  });
}

/** Mark the points at one λ and tell their values, the largest first. */
function markPoint(svg, pointer, layout, k, height) {
  const { record, curves, baselines, measure, x, y, box } = layout;
  const lambda = record.lambdas[k];
  const known = curves.filter((curve) => visible(layout, curve[measure][k]));
  const distance = (curve) => Math.abs(y(curve[measure][k]) - height);
  const nearest = known.reduce((best, curve) => (best && distance(best) <= distance(curve) ? best : curve), null);
  pointer.replaceChildren(draw('line', { x1: x(lambda), x2: x(lambda), y1: box.top, y2: box.bottom, class: 'guide' }));
  for (const curve of known) {
    const radius = curve === nearest ? 6 : 4;
    pointer.append(draw('circle', { cx: x(lambda), cy: y(curve[measure][k]), r: radius, class: `dot ${curveClass(curve)}` }));
  }
  const ordered = [...curves].sort((a, b) => (b[measure][k] ?? Infinity) - (a[measure][k] ?? Infinity));
  const rows = ordered.map((curve) => [curveClass(curve), curveName(curve), showValue(measure, curve[measure][k]), curve === nearest]);
  rows.push(...baselines.map((b) => [`baseline ${b.name}`, b.name, showValue(measure, b[measure]), false]));
  const title = `λ = ${Number(lambda.toFixed(4))}`;
  const text = rows.map(([, name, value]) => `${name} ${value}`).join('; ');
  svg.setAttribute('aria-valuenow', lambda);
  svg.setAttribute('aria-valuetext', `${title}: ${text}`);
  const frame = svg.getBoundingClientRect();
  showTooltip(title, rows, frame.left + x(lambda), frame.top + height);
}
