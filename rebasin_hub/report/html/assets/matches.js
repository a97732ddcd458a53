// Every unit of one permutation: its cosine with its partner, before and after.

const MOST_DOTS = 800;

function matchCharts(record) {
  for (const details of document.querySelectorAll('details[data-match]')) {
    const place = details.querySelector('.units-chart');
    const match = record.matches[Number(details.dataset.match)];
    details.addEventListener('toggle', () => {
      if (!details.open || place.dataset.drawn) return;
      place.dataset.drawn = 'yes';
      const units = sortedUnits(match);
      onWidth(place, (width) => drawUnits(place, match, units, width));
    });
  }
}

/** Units by their aligned cosine, best first; those that have none at the end. */
function sortedUnits(match) {
  const units = match.aligned.map((aligned, unit) => ({ unit, aligned, naive: match.naive[unit] }));
  return units.sort((a, b) => (b.aligned ?? -2) - (a.aligned ?? -2) || a.unit - b.unit);
}

function drawUnits(place, match, units, width) {
  const height = 190;
  const box = { left: 40, right: width - 8, top: 10, bottom: height - 30 };
  const values = units.flatMap((unit) => [unit.aligned, unit.naive]).filter((value) => value !== null);
  const low = Math.max(-1, Math.min(0, ...values.map((value) => Math.floor(value * 5) / 5)));
  const x = scale(0, Math.max(units.length - 1, 1), box.left + 4, box.right - 4);
  const y = scale(low, 1, box.bottom, box.top);
  const svg = draw('svg', {
    width, height, viewBox: `0 0 ${width} ${height}`, role: 'img',
    'aria-label': `cosines of the ${units.length} units of ${match.permutation}, best matched first`,
  });
  const axes = draw('g', { class: 'axes' });
  for (const { value, step } of linearTicks(low, 1, 4)) {
    axes.append(
      draw('line', { x1: box.left, x2: box.right, y1: y(value), y2: y(value), class: 'grid' }),
      draw('text', { x: box.left - 8, y: y(value) + 4, 'text-anchor': 'end' }, showTick('loss', value, step)),
    );
  }
  axes.append(draw('text', { x: (box.left + box.right) / 2, y: height - 8, 'text-anchor': 'middle' }, 'units of A, best matched first'));
  const every = Math.ceil(units.length / MOST_DOTS);
  const dots = draw('g', { class: 'dots naive' });
  units.forEach((unit, k) => {
    if (k % every === 0 && unit.naive !== null) dots.append(draw('circle', { cx: x(k).toFixed(1), cy: y(unit.naive).toFixed(1), r: 1.8 }));
  });
  const line = pathData(units.map((unit, k) => (unit.aligned === null ? null : [x(k), y(unit.aligned)])));
  svg.append(axes, dots, draw('path', { d: line, class: 'curve aligned as-is' }));
  const guide = draw('line', { class: 'guide', y1: box.top, y2: box.bottom, x1: -9, x2: -9 });
  svg.append(guide);
  svg.addEventListener('pointermove', (event) => {
    const at = (event.clientX - svg.getBoundingClientRect().left - box.left - 4) / (box.right - box.left - 8);
    const k = Math.max(0, Math.min(units.length - 1, Math.round(at * (units.length - 1))));
    guide.setAttribute('x1', x(k));
    guide.setAttribute('x2', x(k));
    const rows = NUMBERINGS.map((kind) => [`curve ${kind} as-is`, kind, units[k][kind] === null ? '–' : units[k][kind].toFixed(4), false]);
    showTooltip(`unit ${units[k].unit}, ${k + 1} of ${units.length}`, rows, event.clientX, event.clientY);
  });
  svg.addEventListener('pointerleave', () => {
    guide.setAttribute('x1', -9);
    guide.setAttribute('x2', -9);
    hideTooltip();
  });
  place.replaceChildren(svg);
}
