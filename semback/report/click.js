const { node } = event.target.dataset, texts = this.nextElementSibling;
const chosen = node === this.dataset.chosen ? undefined : node;
this.dataset.chosen = chosen;
texts.open = true;
this.querySelectorAll('button').forEach(button => {
  button.style.outline = button.dataset.node === chosen ? '3px solid #d55e00' : '';
});
[...texts.querySelectorAll('tr')].slice(1).forEach((row, place) => {
  row.hidden = chosen && place !== +chosen;
});
