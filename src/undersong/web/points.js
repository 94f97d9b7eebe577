// The points of the map, drawn by the graphics card, or pixel by pixel where there is none.
//
// Both ways give a function draw(view, look): view has width, height (CSS pixels), ratio, and
// scale, left, top with pixel = left + scale * x and top - scale * y; look has size (radius in CSS
// pixels), ink and tail (colours such as #c2410c) and genre (only this one stands out; -1: all).

const STRENGTH = { ink: 0.6, tail: 0.8 }; // alpha of one point
const FAINT = 0.13; // share of it for what does not stand out
const LEVELS = 4; // of how much of a pixel a disc covers

const IMITATIONS = /swiftshader|llvmpipe|softpipe|basic render|software/i;

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
  strength = wanted < 0.0 || genre == wanted ? 1.0 : ${FAINT};
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

/**
 * Make the function that draws points.
 * @param points x, y, genre: arrays of n numbers; tail: index of the first long-tail one, as those
 *   stand last and so lie on top
 */
export function drawer(canvas, points) {
  const gl = hasCard()
    && canvas.getContext("webgl2", { antialias: false, powerPreference: "low-power" });
  canvas.dataset.drawn = gl ? "card" : "pixels";
  return gl ? byCard(gl, points) : byPixel(canvas.getContext("2d"), points);
}

/** Say whether WebGL means a graphics card: imitated by the processor it is five times slower. */
function hasCard() {
  const gl = document.createElement("canvas").getContext("webgl2");
  const told = gl?.getExtension("WEBGL_debug_renderer_info");
  const name = told ? gl.getParameter(told.UNMASKED_RENDERER_WEBGL) : "";
  gl?.getExtension("WEBGL_lose_context")?.loseContext();
  return Boolean(gl) && !IMITATIONS.test(name);
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

/** Write discs into the pixels of an image: quicker than any canvas where no card helps. */
function byPixel(context, points) {
  const n = points.x.length;
  let image = null;
  return (view, look) => {
    const { width, height } = context.canvas;
    if (image?.width !== width || image.height !== height) image = context.createImageData(width, height);
    const pixels = new Uint32Array(image.data.buffer);
    pixels.fill(0);
    const stamp = disc(look.size * view.ratio, width);
    for (const [kind, from, to] of [["ink", 0, points.tail], ["tail", points.tail, n]]) {
      const [full, faint] = [1, FAINT].map((share) => inks(look[kind], STRENGTH[kind] * share));
      for (let i = from; i < to; i++) {
        const x = Math.round(view.ratio * (view.left + view.scale * points.x[i]));
        const y = Math.round(view.ratio * (view.top - view.scale * points.y[i]));
        const { reach } = stamp;
        if (x < reach || y < reach || x >= width - reach || y >= height - reach) continue;
        const ink = look.genre < 0 || points.genre[i] === look.genre ? full : faint;
        put(pixels, y * width + x, stamp, ink);
      }
    }
    context.putImageData(image, 0, 0);
  };
}

function put(pixels, at, { offsets, covers }, ink) {
  for (let k = 0; k < offsets.length; k++) {
    const place = at + offsets[k];
    pixels[place] = ink[covers[k] + (pixels[place] >>> 24)];
  }
}

/** The pixels of a disc around one: how far each is in the image, and where its inks begin. */
function disc(radius, width) {
  const reach = Math.ceil(radius);
  const offsets = [];
  const covers = [];
  for (let y = -reach; y <= reach; y++) {
    for (let x = -reach; x <= reach; x++) {
      const cover = Math.min(LEVELS, Math.round(LEVELS * (radius - Math.hypot(x, y) + 0.5)));
      if (cover <= 0) continue;
      offsets.push(y * width + x);
      covers.push((cover - 1) * 256);
    }
  }
  return { reach, offsets: Int32Array.from(offsets), covers: Int32Array.from(covers) };
}

/** What a pixel becomes, as ABGR: for each level of cover and each alpha that it has before. */
function inks(colour, strength) {
  const [red, green, blue] = shares(colour).map((share) => Math.round(255 * share));
  return Uint32Array.from({ length: LEVELS * 256 }, (_, at) => {
    const cover = (strength * (Math.floor(at / 256) + 1)) / LEVELS;
    const alpha = Math.round((at % 256) + (255 - (at % 256)) * cover);
    return ((alpha << 24) | (blue << 16) | (green << 8) | red) >>> 0;
  });
}
