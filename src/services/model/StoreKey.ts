/** Keys of the store: ASCII, ordered bytewise, at most 512 bytes. */

/** A whole number from 0 to 2⁵³ − 1 as text that sorts like the number. */
export const ordered = (value: number): string => value.toString(36).padStart(11, "0")

/** Parts joined so that all keys beginning with the same parts lie together. Parts must not contain `/`. */
export const join = (...parts: ReadonlyArray<string>): string => parts.join("/")

/** The half-open range of keys that begin with `part/`. `0` is the character after `/`. */
export const under = (part: string): { readonly from: string; readonly until: string } => ({
  from: `${part}/`,
  until: `${part}0`
})
