// One box for all pictures that tells the values under the pointer.

const tooltip = document.getElementById('tooltip');
const spoken = document.getElementById('spoken');

/** Show rows of [class of a swatch or null, name, value, is it the nearest one?] beside a point. */
function showTooltip(title, rows, clientX, clientY) {
  const table = make('table');
  for (const [kind, name, value, nearest] of rows) {
    const mark = make('td');
    if (kind) {
      const line = draw('line', { x1: 1, y1: 5, x2: 27, y2: 5, class: kind });
      mark.append(draw('svg', { viewBox: '0 0 28 10', class: 'swatch' }, line));
    }
    const row = make('tr', nearest ? { class: 'nearest' } : {}, mark, make('td', {}, name), make('td', {}, value));
    table.append(row);
  }
  tooltip.replaceChildren(make('strong', {}, title), table);
  tooltip.hidden = false;
  const { width, height } = tooltip.getBoundingClientRect();
  const room = document.documentElement.clientWidth;
  const right = clientX + 18;
  const left = right + width < room - 4 ? right : clientX - 18 - width;
  tooltip.style.left = `${Math.max(4, Math.min(left, room - width - 4))}px`;
  tooltip.style.top = `${Math.max(4, Math.min(clientY - height / 2, window.innerHeight - height - 4))}px`;
}

function hideTooltip() {
  tooltip.hidden = true;
}

/** Say something to those who listen to a page. */
function speak(text) {
  spoken.textContent = text;
}

window.addEventListener('scroll', hideTooltip, { passive: true });
