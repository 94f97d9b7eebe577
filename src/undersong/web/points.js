// The points of the map, drawn by the graphics card, or plainly where there is none.
//
// Both ways give a function draw(view, look): view has width, height (CSS pixels), ratio, and
// scale, left, top with pixel = left + scale * x and top - scale * y; look has size (radius in CSS
// pixels), ink and tail (colours such as #c2410c) and genre (only this one stands out; -1: all).

const VERTEX = `#version 300 es
in vec2 place;
in float genre;
uniform vec4 lens;   // scale and shift of x, scale and shift of y, to clip space
uniform float size;  // diameter in device pixels
uniform float wanted;
out float strength;
void main() {
  gl_Position = vec4(place * lens.xz + lens.yw, 0.0, 1.0);
  gl_PointSize = size;
  strength = wanted < 0.0 || genre == wanted ? 1.0 : 0.13;
}`;

const FRAGMENT = `#version 300 es
precision highp float;
uniform vec4 colour;
uniform float size;
in float strength;
out vec4 shown;
void main() {
  float far = length(gl_PointCoord - 0.5) * size;
  float alpha = colour.a * strength * clamp(size * 0.5 - far + 0.5, 0.0, 1.0);
  shown = vec4(colour.rgb * alpha, alpha);  // premultiplied
}`;

const STRENGTH = { ink: 0.6, tail: 0.8 };

/**
 * Make the function that draws points.
 * @param points x, y, genre: arrays of n numbers; tail: index of the first long-tail one, as those
 *   stand last and so lie on top
 */
export function drawer(canvas, points) {
  const gl = canvas.getContext("webgl2", { antialias: false, powerPreference: "low-power" });
  canvas.dataset.drawn = gl ? "webgl" : "plain";
  return gl ? byCard(gl, points) : plainly(canvas.getContext("2d"), points);
}

function byCard(gl, points) {
  const program = gl.createProgram();
  for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  gl.useProgram(program);
  const n = points.x.length;
  const places = new Float32Array(2 * n);
  for (let i = 0; i < n; i++) places.set([points.x[i], points.y[i]], 2 * i);
  bind(gl, program, { name: "place", width: 2, numbers: places });
  bind(gl, program, { name: "genre", width: 1, numbers: Float32Array.from(points.genre) });
  gl.enable(gl.BLEND);
  gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  const at = (name) => gl.getUniformLocation(program, name);
  const [lens, size, wanted, colour] = ["lens", "size", "wanted", "colour"].map(at);
  return (view, look) => {
    const { width, height, ratio, scale, left, top } = view;
    gl.viewport(0, 0, gl.drawingBufferWidth, gl.drawingBufferHeight);
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.uniform4f(lens, (2 * scale) / width, (2 * left) / width - 1,
      (2 * scale) / height, 1 - (2 * top) / height);
    gl.uniform1f(size, 2 * look.size * ratio);
    gl.uniform1f(wanted, look.genre);
    gl.uniform4f(colour, ...shares(look.ink), STRENGTH.ink);
    gl.drawArrays(gl.POINTS, 0, points.tail);
    gl.uniform4f(colour, ...shares(look.tail), STRENGTH.tail);
    gl.drawArrays(gl.POINTS, points.tail, n - points.tail);
  };
}

/** Red, green and blue of #rrggbb, in [0, 1]. */
const shares = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16) / 255);

function bind(gl, program, { name, width, numbers }) {
  const place = gl.getAttribLocation(program, name);
  gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
  gl.bufferData(gl.ARRAY_BUFFER, numbers, gl.STATIC_DRAW);
  gl.enableVertexAttribArray(place);
  gl.vertexAttribPointer(place, width, gl.FLOAT, false, 0, 0);
}

/** Squares instead of discs, as those are far quicker without a graphics card. */
function plainly(context, points) {
  const n = points.x.length;
  return (view, look) => {
    const { ratio, scale, left, top, width, height } = view;
    const side = 1.8 * look.size;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    for (const [kind, from, to] of [["ink", 0, points.tail], ["tail", points.tail, n]]) {
      context.fillStyle = look[kind];
      for (let i = from; i < to; i++) {
        const x = left + scale * points.x[i];
        const y = top - scale * points.y[i];
        if (x < 0 || y < 0 || x > width || y > height) continue;
        const some = look.genre < 0 || points.genre[i] === look.genre;
        context.globalAlpha = some ? STRENGTH[kind] : 0.1;
        context.fillRect(x - side / 2, y - side / 2, side, side);
      }
    }
  };
}
