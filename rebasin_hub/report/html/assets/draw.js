// Elements, numbers and axes that all pictures share.

const SVG = 'http://www.w3.org/2000/svg';

/** Make an element; text given as a child is text, never markup. */
function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** Make an SVG element. */
function draw(name, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** Write a loss as the tables do. */
function showNumber(value) {
  if (value === null || value === undefined) return 'not finite';
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 100000)) return value.toExponential(1);
  const digits = size < 10 ? 4 : 2;
  return value.toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

function showValue(measure, value) {
  if (measure === 'loss' || value === null) return showNumber(value);
  return `${(100 * value).toFixed(1)} %`;
}

/** Write a tick: no more digits than its step needs. */
function showTick(measure, value, step) {
  if (measure === 'error') {
    const digits = Math.max(0, -Math.floor(Math.log10(100 * step) + 1e-9));
    return `${(100 * value).toFixed(digits)} %`;
  }
  if (value !== 0 && (Math.abs(value) < 0.001 || Math.abs(value) >= 100000)) return value.toExponential();
  return value.toFixed(Math.max(0, -Math.floor(Math.log10(step) + 1e-9)));
}

/** Round steps of 1, 2 or 5 times a power of ten that cover a range; about `count` of them. */
function linearTicks(low, high, count) {
  const raw = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= raw * 0.999);
  const ticks = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k += 1) ticks.push(k * step);
  return ticks.map((value) => ({ value, step }));
}

/** Ticks of a logarithmic axis: powers of ten, and 2 and 5 times these where there is room. */
function logTicks(low, high, count) {
  const ticks = [];
  for (const factors of [[1], [1, 2, 5], [1, 2, 3, 4, 5, 6, 7, 8, 9]]) {
    ticks.length = 0;
    for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e += 1) {
      for (const factor of factors) {
        const value = factor * 10 ** e;
        if (value >= low * 0.999 && value <= high * 1.001) ticks.push({ value, step: 10 ** e });
      }
    }
    if (ticks.length >= Math.min(3, count)) break;
  }
  const every = Math.ceil(ticks.length / (2 * count));
  return ticks.filter((_, k) => k % every === 0);
}

/** A scale from values to pixels, linear or logarithmic. */
function scale(low, high, from, to, log = false) {
  const bend = log ? Math.log : (value) => value;
  const span = bend(high) - bend(low) || 1;
  return (value) => from + ((bend(value) - bend(low)) / span) * (to - from);
}

/** Path data through points; null leaves a gap. A point alone between gaps becomes a dot. */
function pathData(points) {
  let data = '';
  points.forEach((point, k) => {
    if (!point) return;
    const place = `${point[0].toFixed(2)} ${point[1].toFixed(2)}`;
    const starts = !points[k - 1];
    data += `${starts ? 'M' : 'L'}${place}`;
    if (starts && !points[k + 1]) data += `L${place}`;
  });
  return data;
}

/** Radio buttons in a row; calls back with the chosen value. */
function choice(label, name, options, chosen, change) {
  const box = make('fieldset', { class: 'choice' }, make('legend', {}, label));
  for (const [value, text] of options) {
    const input = make('input', { type: 'radio', name, value });
    input.checked = value === chosen;
    input.addEventListener('change', () => change(value));
    box.append(make('label', {}, input, make('span', {}, text)));
  }
  return box;
}

/** A checkbox with its label. */
function toggle(content, checked, change, attributes = {}) {
  const input = make('input', { type: 'checkbox', ...attributes });
  input.checked = checked;
  input.addEventListener('change', () => change(input.checked));
  return make('label', { class: 'toggle' }, input, content);
}

/** Call back with the width of an element, now and whenever it changes. */
function onWidth(element, redraw) {
  let width = 0;
  new ResizeObserver(() => {
    if (Math.abs(element.clientWidth - width) < 1) return;
    width = element.clientWidth;
    if (width > 0) redraw(width);
  }).observe(element);
}
