// Start: read the record that the page holds, draw it, and make the buttons work.

const source = document.getElementById('record').textContent;
const record = JSON.parse(source);

document.documentElement.classList.add('scripts');
curvesChart(record);
planeCharts(record);
matchCharts(record);

document.getElementById('download').addEventListener('click', () => {
  const link = make('a', { href: URL.createObjectURL(new Blob([source], { type: 'application/json' })), download: 'rebasin.json' });
  link.click();
  URL.revokeObjectURL(link.href);
});

for (const button of document.querySelectorAll('button.copy')) {
  button.addEventListener('click', async () => {
    const code = button.parentElement.querySelector('code');
    getSelection().selectAllChildren(code);
    try {
      await navigator.clipboard.writeText(code.textContent);
    } catch {
      // A page opened from a file may not be allowed to; the selection is there to be copied.
      document.execCommand('copy');
    }
    button.textContent = 'Copied';
    speak('Copied');
    setTimeout(() => (button.textContent = 'Copy'), 1500);
  });
}
