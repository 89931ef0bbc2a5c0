// A word that the browser keeps. Where it may keep nothing (a strict privacy setting), it lasts as long as the page.

/** `storage()` is called late, because a browser may refuse to name one. */
export function kept(storage, key) {
  let here = null;
  const use = (act, otherwise) => {
    try {
      return act(storage());
    } catch {
      return otherwise;
    }
  };
  return {
    get: () => use((store) => store.getItem(key), here) ?? here,
    set: (word) => {
      here = word;
      use((store) => store.setItem(key, word));
    },
    forget: () => {
      here = null;
      use((store) => store.removeItem(key));
    },
  };
}
