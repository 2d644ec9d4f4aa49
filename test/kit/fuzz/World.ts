/** What a fuzzer knows of the broker it talks to. */
export interface World {
  readonly port: number
  readonly brokerPid: number
  readonly token: string
  readonly operatorToken: string
  /** A session whose name inputs use freely. */
  readonly victim: Victim
}

export interface Victim {
  readonly id: string
  readonly pid: number
  readonly ownerToken: string
  readonly agent: string
  readonly address: string
}
