/** What doctor looked at, and how it found it. */
export interface Check {
  /** One word. */
  readonly check: string
  readonly level: "ok" | "warning" | "problem"
  /** A sentence; of a problem, with what to do. */
  readonly message: string
}

export const ok = (check: string, message: string): Check => ({ check, level: "ok", message })
export const warning = (check: string, message: string): Check => ({ check, level: "warning", message })
export const problem = (check: string, message: string): Check => ({ check, level: "problem", message })
