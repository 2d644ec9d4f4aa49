/** W3C trace context as it travels in `metadata.traceparent`. */

/** A formatted `traceparent`: version `00`, trace id, span id, flags. */
export type TraceContext = string

const pattern = /^[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/

/** The value in its canonical form, or `undefined` when it is not a usable trace context. */
export const parseTrace = (value: unknown): TraceContext | undefined => {
  if (typeof value !== "string") return undefined
  const match = pattern.exec(value.trim().toLowerCase())
  if (match === null) return undefined
  const [, traceId, spanId, flags] = match
  return /^0+$/.test(traceId!) || /^0+$/.test(spanId!) ? undefined : `00-${traceId}-${spanId}-${flags}`
}

/** A new trace from 16 + 8 random bytes given as 48 hex digits. */
export const traceFrom = (hex: string): TraceContext => `00-${hex.slice(0, 32)}-${hex.slice(32, 48)}-01`

/** The metadata with a valid `traceparent`: the one it has, or a newly minted one. */
export const ensureTrace = (
  metadata: { readonly [key: string]: unknown },
  mint: () => TraceContext
): { readonly [key: string]: unknown } => {
  const trace = parseTrace(metadata.traceparent)
  return trace !== undefined && trace === metadata.traceparent
    ? metadata
    : { ...metadata, traceparent: trace ?? mint() }
}
