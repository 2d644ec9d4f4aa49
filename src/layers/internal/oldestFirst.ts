/**
 * The keys of a map from the oldest on, for whoever deletes each of them: a fresh iterator would walk over everything that was
 * deleted since the map last grew, every time. To be asked only while there are more keys than were deleted.
 */
export const oldestFirst = <K>(map: ReadonlyMap<K, unknown>): (() => K) => {
  const keys = map.keys()
  return () => keys.next().value!
}
