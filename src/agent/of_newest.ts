/** What is said of the same state again is not worked out again. */
export function ofNewest<State extends object, Said>(say: (state: State) => Said): (state: State) => Said {
  let newest: { state: State; said: Said } | null = null;
  return (state) => {
    if (newest?.state !== state) newest = { state, said: say(state) };
    return newest.said;
  };
}
