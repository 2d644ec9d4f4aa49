/** JSON from outside: its shapes and its bounds. */
import { Schema } from "effect"

/** A field that may be left out. */
export const optional = <A, I>(schema: Schema.Schema<A, I>) => Schema.optionalWith(schema, { exact: true })

/** A field that may be left out; `null` counts as left out. */
export const absentable = <A, I>(schema: Schema.Schema<A, I>) => optional(Schema.NullishOr(schema))

export const isObject = (value: unknown): value is { readonly [key: string]: unknown } =>
  typeof value === "object" && value !== null && !Array.isArray(value)

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
