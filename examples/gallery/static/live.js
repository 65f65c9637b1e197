// Keeps the page up to date: when the server says that something changed, the
// page is fetched again, and what is new or different in it is put in place.
// Elements with a data-key keep their place and state; nothing else is script.
(() => {
  const merge = (old, fresh) => {
    const known = new Map([...old.children].filter((e) => e.dataset.key).map((e) => [e.dataset.key, e]));
    let place = old.firstElementChild;
    for (const next of [...fresh.children]) {
      const same = next.dataset.key && known.get(next.dataset.key);
      if (!same) {
        old.insertBefore(document.adoptNode(next), place);
        continue;
      }
      known.delete(next.dataset.key);
      if (same !== place) old.insertBefore(same, place);
      else place = place.nextElementSibling;
      const inner = same.querySelector(':scope > [data-list]');
      if (inner) merge(inner, next.querySelector(':scope > [data-list]'));
      else if (same.innerHTML !== next.innerHTML) same.replaceChildren(...next.childNodes);
      same.className = next.className;
    }
    while (place) {
      const gone = place;
      place = place.nextElementSibling;
      gone.remove();
    }
  };

  let busy = false, again = false;
  const refresh = async () => {
    if (busy) { again = true; return; }
    busy = true;
    try {
      const answer = await fetch(location.href, { cache: 'no-store' });
      if (!answer.ok) return;
      const fresh = new DOMParser().parseFromString(await answer.text(), 'text/html');
      for (const list of fresh.querySelectorAll('[data-live]')) {
        const old = document.querySelector(`[data-live="${list.dataset.live}"]`);
        if (list.hasAttribute('data-list')) merge(old, list);
        else if (old.innerHTML !== list.innerHTML) old.replaceChildren(...list.childNodes);
      }
    } finally {
      busy = false;
      if (again) { again = false; refresh(); }
    }
  };

  const light = document.querySelector('[data-connection]');
  const source = new EventSource('/events');
  let lost = false;
  source.onmessage = refresh;
  source.onopen = () => { light.textContent = 'live'; if (lost) refresh(); lost = false; };
  source.onerror = () => { light.textContent = 'reconnecting'; lost = true; };
})();
