/** How operator commands put things. */
import { Options } from "@effect/cli"

export const json = Options.boolean("json").pipe(Options.withDescription("Print everything as JSON"))

export const plural = (count: number, noun: string): string => `${count} ${noun}${count === 1 ? "" : "s"}`

export const bytes = (count: number): string => {
  if (count < 1_024) return `${count} bytes`
  const [size, unit] =
    count < 2 ** 20 ? [count / 2 ** 10, "KiB"] : count < 2 ** 30 ? [count / 2 ** 20, "MiB"] : [count / 2 ** 30, "GiB"]
  return `${size.toFixed(1)} ${unit}`
}

/** What others wrote, fit for a terminal: a line without control characters. */
export const plain = (text: string): string => text.replace(/[\p{Cc}\p{Zl}\p{Zp}]/gu, " ")

export const counts = (byName: { readonly [name: string]: number }): string =>
  Object.entries(byName)
    .map(([name, count]) => `${name}: ${count}`)
    .join(", ")
