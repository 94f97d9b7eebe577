// Wheel, mouse, pen and fingers, turned into moves of the map.

const STILL = 4; // pixels that a click may wander

/**
 * Listen to pointers on a canvas.
 * @param moves pan(dx, dy), zoomAt(x, y, times), point(x, y), leave() and tap(x, y), all in pixels
 */
export function listen(canvas, moves) {
  const down = new Map();
  let moved = 0;

  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const pixels = event.deltaY * (event.deltaMode === 1 ? 16 : 1);
    const times = Math.exp(-Math.max(-240, Math.min(240, pixels)) / 400);
    moves.zoomAt(event.offsetX, event.offsetY, times);
  }, { passive: false });

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    down.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
    moved = down.size > 1 ? Infinity : 0;
  });

  canvas.addEventListener("pointermove", (event) => {
    const last = down.get(event.pointerId);
    const here = { x: event.offsetX, y: event.offsetY };
    if (!last) return moves.point(here.x, here.y);
    const before = down.size === 2 ? spread([...down.values()]) : null;
    down.set(event.pointerId, here);
    moved += Math.hypot(here.x - last.x, here.y - last.y);
    if (before) {
      const after = spread([...down.values()]);
      moves.pan(after.x - before.x, after.y - before.y);
      moves.zoomAt(after.x, after.y, after.far / Math.max(before.far, 1));
    } else if (moved > STILL) moves.pan(here.x - last.x, here.y - last.y);
  });

  canvas.addEventListener("pointerup", (event) => {
    if (down.delete(event.pointerId) && moved <= STILL) moves.tap(event.offsetX, event.offsetY);
  });
  canvas.addEventListener("pointercancel", (event) => down.delete(event.pointerId));
  canvas.addEventListener("pointerleave", moves.leave);
}

/** Middle of two fingers, and how far they are apart. */
function spread([a, b]) {
  return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, far: Math.hypot(a.x - b.x, a.y - b.y) };
}
