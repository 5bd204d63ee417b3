// One painter: a canvas of the model's own pixels, and over it the region that is made anew. The page gets both as PNG
// data URLs in `props.value`, after each stroke, and may set them.
const root = element.querySelector('.painter');
const size = Number(root.dataset.size);
const [picture, region] = root.querySelectorAll('canvas');
const [paint, cover] = [picture, region].map(canvas => canvas.getContext('2d', { willReadFrequently: true }));
const find = name => root.querySelector(`[data-${name}]`);
let colour = root.dataset.ground, empty = true, covered = false, last = null, own = '', past = [];

const mode = () => find('layer').value;
const masked = () => {  // the region as white on black, which has no half-transparent pixels
  const copy = document.createElement('canvas');
  copy.width = copy.height = size;
  const context = copy.getContext('2d'), pixels = cover.getImageData(0, 0, size, size);
  for (let i = 0; i < pixels.data.length; i += 4) {
    pixels.data.fill(pixels.data[i + 3] ? 255 : 0, i, i + 3);
    pixels.data[i + 3] = 255;
  }
  context.putImageData(pixels, 0, 0);
  return copy.toDataURL('image/png');
};
const send = () => {
  const value = { picture: empty ? '' : picture.toDataURL('image/png'), region: covered ? masked() : '' };
  own = JSON.stringify(value);
  props.value = value;
  root.dataset.state = empty ? 'empty' : 'painted';
};
const ground = () => { paint.fillStyle = root.dataset.ground; paint.fillRect(0, 0, size, size); };
const keep = () => {
  past.push([paint.getImageData(0, 0, size, size), cover.getImageData(0, 0, size, size), empty, covered]);
  past = past.slice(-20);
};
const dot = (context, x, y) => {  // pixel by pixel, as an arc would blend colours that mean nothing between two regions
  const radius = Number(find('width').value) / 2;
  for (let v = 0; v < size; v++) for (let u = 0; u < size; u++)
    if ((u + .5 - x) ** 2 + (v + .5 - y) ** 2 <= radius ** 2 + .01 || (Math.floor(x) === u && Math.floor(y) === v))
      context.fillRect(u, v, 1, 1);
};
const stroke = event => {
  const box = region.getBoundingClientRect();
  const [x, y] = [(event.clientX - box.left) / box.width * size, (event.clientY - box.top) / box.height * size];
  const context = mode() === 'picture' ? paint : cover;
  context.fillStyle = mode() === 'picture' ? colour : '#ff7a00';
  const [fromX, fromY] = last || [x, y], steps = Math.max(1, Math.ceil(Math.hypot(x - fromX, y - fromY) * 2));
  for (let i = 1; i <= steps; i++) dot(context, fromX + (x - fromX) * i / steps, fromY + (y - fromY) * i / steps);
  last = [x, y];
};
region.addEventListener('pointerdown', event => {
  event.preventDefault();
  region.setPointerCapture(event.pointerId);
  keep();
  if (mode() === 'picture') empty = false; else covered = true;
  last = null;
  stroke(event);
});
region.addEventListener('pointermove', event => { if (region.hasPointerCapture(event.pointerId)) stroke(event); });
region.addEventListener('pointerup', () => {
  send();
  trigger('painted');
});
root.querySelectorAll('[data-colour]').forEach(button => button.addEventListener('click', () => {
  root.querySelectorAll('[data-colour]').forEach(other => other.setAttribute('aria-pressed', other === button));
  colour = button.dataset.colour;
  find('layer').value = 'picture';
}));
find('free')?.addEventListener('input', event => {
  const text = event.target.value;
  colour = event.target.type === 'color' ? text : '#' + Number(text).toString(16).padStart(2, '0').repeat(3);
  root.querySelectorAll('[data-colour]').forEach(other => other.setAttribute('aria-pressed', false));
  find('layer').value = 'picture';
});
find('fill').addEventListener('click', () => {
  keep();
  if (mode() === 'picture') { paint.fillStyle = colour; empty = false; } else { cover.fillStyle = '#ff7a00'; covered = true; }
  (mode() === 'picture' ? paint : cover).fillRect(0, 0, size, size);
  send();
  trigger('painted');
});
find('undo').addEventListener('click', () => {
  if (!past.length) return;
  const [below, above, was, had] = past.pop();
  paint.putImageData(below, 0, 0);
  cover.putImageData(above, 0, 0);
  [empty, covered] = [was, had];
  send();
});
find('clear').addEventListener('click', () => {
  keep();
  if (mode() === 'picture') { ground(); empty = true; }
  cover.clearRect(0, 0, size, size);
  covered = false;
  send();
});
watch('value', () => {  // an upload, or a result that is taken as the next picture
  const text = JSON.stringify(props.value || {});
  if (text === own) return;
  own = text;
  const image = new Image();
  image.onload = () => {
    keep();
    paint.drawImage(image, 0, 0);
    cover.clearRect(0, 0, size, size);
    [empty, covered] = [false, false];
    root.dataset.state = 'painted';
  };
  if (props.value?.picture) image.src = props.value.picture;
});
ground();
