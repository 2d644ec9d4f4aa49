/** Bounds on JSON from outside. */

/** True when objects and arrays nest deeper than `limit`. Walks without recursion. */
export const isDeeperThan = (value: unknown, limit: number): boolean => {
  let level: Array<unknown> = [value]
  for (let depth = 0; level.length > 0; depth++) {
    const next: Array<unknown> = []
    for (const one of level) {
      if (typeof one !== "object" || one === null) continue
      if (depth === limit) return true
      for (const inner of Array.isArray(one) ? one : Object.values(one)) {
        if (typeof inner === "object" && inner !== null) next.push(inner)
      }
    }
    level = next
  }
  return false
}
