/** How a plugin asks for the broker of an account. */
export interface DiscoverOptions {
  /** The account and token the broker runs with; both name the place of its discovery file. */
  readonly accountId: string
  readonly runtimeToken: string
  /** The user's data directory, where it is not the usual one. */
  readonly userDataDir?: string
  /** Environment of a daemon that is started, added to this process's. */
  readonly env?: Readonly<Record<string, string | undefined>>
  /** How long finding, starting included, may take. */
  readonly timeoutMs?: number
  /** The program to start instead of the broker of this package, and the Node to run it. */
  readonly brokerEntry?: string
  readonly nodeBinary?: string
  /** Never start a daemon; find only. */
  readonly launch?: boolean
  /** Talk to daemons that cannot prove to know the token (S13). Default false. */
  readonly acceptUnproven?: boolean
  readonly signal?: AbortSignal
}

/** A broker that runs and has proved to know the token of its discovery file. */
export interface FoundBroker {
  readonly ipcUrl: string
  readonly bearerToken: string
  readonly pid: number
  /** Absent when the broker says none that can be read. */
  readonly version: string | undefined
  /** Whether this call started it. */
  readonly spawned: boolean
  readonly discoveryFile: string
}
