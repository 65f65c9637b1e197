// Keeps the page up to date. When the server says that something changed, this
// script fetches the page again and replaces only the parts that differ. All
// other nodes stay, and so focus, scroll position and loaded images stay too.
(() => {
  'use strict';
  const ELEMENT = 1;
  const key = (node) => (node.nodeType === ELEMENT ? node.dataset.key : undefined);

  // patch makes old equal to fresh. A node with data-fixed never changes.
  const patch = (old, fresh) => {
    if (old.isEqualNode(fresh)) return;
    if (old.nodeType !== ELEMENT) {
      old.data = fresh.data;
      return;
    }
    if ('fixed' in old.dataset) return;
    for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
    for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    patchChildren(old, fresh);
  };

  // Children with a data-key are matched by it, others by their position.
  // Children that are gone are removed first, so that the rest need not move: a
  // moved node loses focus.
  const patchChildren = (old, fresh) => {
    const wanted = new Set([...fresh.childNodes].map(key));
    const known = new Map();
    for (const child of [...old.childNodes]) {
      if (key(child) === undefined) continue;
      if (wanted.has(key(child))) known.set(key(child), child);
      else child.remove();
    }
    let place = old.firstChild;
    for (const next of [...fresh.childNodes]) {
      const same = key(next) === undefined ? unkeyed(place, next) : known.get(key(next));
      if (!same) {
        old.insertBefore(document.adoptNode(next), place);
        continue;
      }
      while (place && place !== same && key(place) === undefined) place = removeAndNext(place);
      if (place === same) place = place.nextSibling;
      else old.insertBefore(same, place);
      patch(same, next);
    }
    while (place) place = removeAndNext(place);
  };

  const unkeyed = (place, next) => (place && key(place) === undefined && place.nodeName === next.nodeName ? place : null);

  const removeAndNext = (node) => {
    const next = node.nextSibling;
    node.remove();
    return next;
  };

  const load = async () => {
    try {
      const answer = await fetch(location.href, { cache: 'no-store' });
      return answer.ok ? new DOMParser().parseFromString(await answer.text(), 'text/html') : null;
    } catch {
      return null; // the server does not answer; the page stays as it is until the events come back
    }
  };

  let busy = false, again = false;
  const refresh = async () => {
    if (busy) {
      again = true;
      return;
    }
    busy = true;
    const page = await load();
    busy = false;
    if (page) show(page);
    if (again) {
      again = false;
      refresh();
    }
  };

  // If something new comes above, the part that people look at must not move:
  // the element with the focus, or else the first visible one. At the top of
  // the page nothing is held, so that they see new things.
  const anchor = () => {
    const inView = (e) => {
      const { top, bottom } = e.getBoundingClientRect();
      return bottom > 0 && top < innerHeight;
    };
    const candidates = [document.activeElement, ...document.querySelectorAll('.grid > [data-key], .log > [data-key]')];
    return scrollY > 0 ? candidates.find((e) => e !== document.body && inView(e)) : undefined;
  };

  const show = (page) => {
    const before = new Set(deliveries()), held = anchor();
    const top = held?.getBoundingClientRect().top;
    for (const fresh of page.querySelectorAll('[data-live]')) {
      const old = document.querySelector(`[data-live="${fresh.dataset.live}"]`);
      if (old) patch(old, fresh);
    }
    if (held?.isConnected) scrollBy(0, held.getBoundingClientRect().top - top);
    unread += deliveries().filter((id) => !before.has(id)).length;
    announce();
  };

  // Screen readers announce new deliveries in one sentence, at most every 20
  // seconds.
  const deliveries = () => [...document.querySelectorAll('.log > [data-key]')].map(key);
  let unread = 0, quiet = false;
  const announce = () => {
    if (quiet || unread === 0) return;
    document.querySelector('[data-news]').textContent = unread === 1 ? 'One new delivery.' : `${unread} new deliveries.`;
    unread = 0;
    quiet = true;
    setTimeout(() => { quiet = false; announce(); }, 20000);
  };

  // The placeholder is behind the image. It must not be visible through a
  // transparent image, and a broken image must not cover it.
  const settle = (img) => {
    if (!img.complete) return;
    img.hidden = img.naturalWidth === 0;
    img.parentElement.classList.toggle('loaded', !img.hidden);
  };
  for (const event of ['load', 'error']) {
    document.addEventListener(event, ({ target }) => { if (target.matches?.('.frame img')) settle(target); }, true);
  }
  document.querySelectorAll('.frame img').forEach(settle);

  const connection = document.querySelector('[data-connection]');
  const say = (state, text) => {
    connection.dataset.connection = state;
    if (connection.textContent !== text) connection.textContent = text;
  };
  let source = null, retry = 0;
  const connect = () => {
    source?.close();
    clearTimeout(retry);
    source = new EventSource('/events');
    source.onopen = () => {
      document.documentElement.classList.add('live');
      say('live', 'Live');
      refresh(); // for changes from before this connection
    };
    source.onmessage = refresh;
    source.onerror = () => {
      if (source.readyState !== EventSource.CLOSED) return say('lost', 'Connection lost, trying again');
      say('live', 'Live, every 5 seconds'); // the answer was not a stream: too many pages are watching
      refresh();
      retry = setTimeout(connect, 5000);
    };
  };
  // A browser opens six connections to a server, so pages in the background use
  // none.
  const watch = () => {
    if (!document.hidden) return connect();
    clearTimeout(retry);
    source?.close();
  };
  document.addEventListener('visibilitychange', watch);
  watch();
})();
