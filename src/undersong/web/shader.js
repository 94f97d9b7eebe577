// Points drawn by the graphics card (points.js).

import { FAINT, MOST_INKS, shares } from "./points.js";

const VERTEX = `#version 300 es
in vec2 place;
in float genre;
in float hue;
uniform vec4 lens;   // scale and shift of x, scale and shift of y, to clip space
uniform float size;  // diameter in device pixels
uniform float wanted;
uniform float strength;
uniform vec3 inks[${MOST_INKS}];
out vec4 colour;
void main() {
  gl_Position = vec4(place * lens.xz + lens.yw, 0.0, 1.0);
  gl_PointSize = size;
  float share = wanted == -1.0 || genre == wanted ? 1.0 : ${FAINT};
  colour = vec4(inks[int(hue)], strength * share);
}`;

const FRAGMENT = `#version 300 es
precision highp float;
uniform float size;
in vec4 colour;
out vec4 shown;
void main() {
  float far = length(gl_PointCoord - 0.5) * size;
  float alpha = colour.a * clamp(size * 0.5 - far + 0.5, 0.0, 1.0);
  shown = vec4(colour.rgb * alpha, alpha);  // premultiplied
}`;

/** Make the function that draws points with WebGL 2. */
export function byCard(gl, points) {
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
  for (const name of ["genre", "hue"]) bind(gl, program, { name, width: 1, numbers: Float32Array.from(points[name]) });
  gl.enable(gl.BLEND);
  gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  const at = (name) => gl.getUniformLocation(program, name);
  const [lens, size, wanted, strength, inks] = ["lens", "size", "wanted", "strength", "inks"].map(at);
  return (view, look) => {
    const { width, height, ratio, scale, left, top } = view;
    gl.viewport(0, 0, gl.drawingBufferWidth, gl.drawingBufferHeight);
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.uniform4f(lens, (2 * scale) / width, (2 * left) / width - 1,
      (2 * scale) / height, 1 - (2 * top) / height);
    const rows = new Float32Array(3 * MOST_INKS);
    look.inks.forEach((ink, row) => rows.set(shares(ink), 3 * row));
    gl.uniform3fv(inks, rows);
    for (const group of look.groups) {
      gl.uniform1f(size, 2 * group.size * ratio);
      gl.uniform1f(strength, group.strength);
      gl.uniform1f(wanted, group.faint ? -2 : look.genre);
      gl.drawArrays(gl.POINTS, group.from, group.to - group.from);
    }
  };
}

function bind(gl, program, { name, width, numbers }) {
  const place = gl.getAttribLocation(program, name);
  gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
  gl.bufferData(gl.ARRAY_BUFFER, numbers, gl.STATIC_DRAW);
  gl.enableVertexAttribArray(place);
  gl.vertexAttribPointer(place, width, gl.FLOAT, false, 0, 0);
}
