/**
 * Every setting of the broker with its default. A setting `graceMs` is `"graceMs"` in the configuration file,
 * `MASONS_BROKER_GRACE_MS` in the environment and `--set graceMs=…` on the command line; the later wins.
 */
import { Config, Context } from "effect"
import { normalScope } from "./model/GatewayFrame.js"
import { commandWords } from "./model/SpawnPlan.js"

export interface Setting<A> {
  /** What it does, in a sentence without a full stop. */
  readonly about: string
  readonly unit: "ms" | "bytes" | "count" | "text" | "yes or no" | "one of"
  readonly default: A
  /** What a value must be, to complete "must be …". */
  readonly expects: string
  readonly config: Config.Config<A>
}

const whole =
  (unit: "ms" | "bytes" | "count", named: string) =>
  (fallback: number, about: string, least = 1, most = Number.MAX_SAFE_INTEGER) => {
    const expects = `a whole number${named} from ${least} ${most === Number.MAX_SAFE_INTEGER ? "up" : `to ${most}`}`
    return {
      about,
      unit,
      default: fallback,
      expects,
      config: Config.number().pipe(
        Config.validate({
          message: expects,
          validation: (value) => Number.isInteger(value) && value >= least && value <= most
        })
      )
    } satisfies Setting<number>
  }
const ms = whole("ms", " of milliseconds")
/** For what node measures: its timers can wait no longer. */
const timer = (fallback: number, about: string) => ms(fallback, about, 1, 2 ** 31 - 1)
const bytes = whole("bytes", " of bytes")
const count = whole("count", "")

const text = (fallback: string, about: string): Setting<string> => ({
  about,
  unit: "text",
  default: fallback,
  expects: "a text that is not empty",
  config: Config.nonEmptyString()
})

const sessionScope = (about: string): Setting<string> => {
  const expects = 'a text of at most 256 characters that does not begin with "__masons_"'
  return {
    about,
    unit: "text",
    default: "",
    expects,
    config: Config.string().pipe(
      Config.map((value) => value.trim()),
      Config.validate({ message: expects, validation: (value) => value === "" || normalScope(value) === value })
    )
  }
}

const textOrNothing = (
  about: string,
  expects = "a text",
  isUsable: (value: string) => boolean = () => true
): Setting<string> => ({
  about,
  unit: "text",
  default: "",
  expects,
  config: Config.string().pipe(
    Config.map((value) => value.trim()),
    Config.validate({ message: expects, validation: (value) => value === "" || isUsable(value) })
  )
})

const yes = (fallback: boolean, about: string): Setting<boolean> => ({
  about,
  unit: "yes or no",
  default: fallback,
  expects: "true or false",
  config: Config.boolean()
})

const oneOf = <const A extends string>(choices: ReadonlyArray<A>, fallback: A, about: string): Setting<A> => ({
  about,
  unit: "one of",
  default: fallback,
  expects: choices.join(" or "),
  config: Config.literal(...(choices as readonly [A, ...Array<A>]))() as Config.Config<A>
})

const KiB = 1024
const MiB = 1024 * KiB
const GiB = 1024 * MiB
const minute = 60_000
const hour = 60 * minute

export const settings = {
  // -- which broker -----------------------------------------------------------------------------------------------------
  accountId: text("default", "The account this broker speaks for"),
  connector: oneOf(["gateway", "loopback"], "gateway", "The network: the gateway, or none beyond this broker"),
  store: oneOf(["lmdb", "memory"], "lmdb", "Where messages are kept: on disk, or in memory until the broker ends"),
  port: count(0, "Port on 127.0.0.1; 0 lets the system choose", 0, 65_535),
  logLevel: oneOf(["debug", "info", "warn", "error"], "info", "The least severe events that are logged"),

  // -- endpoints --------------------------------------------------------------------------------------------------------
  graceMs: ms(10 * minute, "How long an endpoint whose plugin is away keeps its mail and its place"),
  endpoints: count(10_000, "Endpoints at a time, those whose plugin is away included"),
  livenessIntervalMs: ms(2_000, "How often plugin processes are checked"),
  pluginsMayDispatch: yes(true, "Plugins may hand undispatched messages to endpoints"),
  taskHintMax: count(200, "Code points of a task hint that are kept"),

  // -- channels ---------------------------------------------------------------------------------------------------------
  pingIntervalMs: ms(15_000, "How often a plugin's channel is pinged"),
  silenceMs: ms(30_000, "A channel that is silent for so long is ended"),
  congestedBytes: bytes(MiB, "Socket backlog above which nothing is pushed to a channel"),
  uncongestedBytes: bytes(256 * KiB, "Socket backlog below which pushing goes on"),
  streamSends: count(256, "Sends of one channel that may be unanswered; it is not read while there are more"),
  streamSendBytes: bytes(8 * MiB, "Their bytes; one frame may be larger"),
  contentionCount: count(5, "Living channels of one process displaced by newer ones after which newer ones must wait"),
  contentionWithinMs: ms(10_000, "Within how long so many count"),
  contentionRestMs: ms(30_000, "How long they must wait while the current one is open"),

  // -- delivery ---------------------------------------------------------------------------------------------------------
  windowMessages: count(128, "Messages in flight to an endpoint at most; as many more are held in memory for it"),
  windowBytes: bytes(
    4 * MiB,
    "Bytes in flight to an endpoint at most, and of mail held in memory for it; one message may be larger"
  ),
  receiptMs: ms(5_000, "A push without receipt for so long is stored"),
  spillAgeMs: ms(100, "A push older than this is stored once enough later messages are accepted"),
  spillAfterAccepted: count(32, "How many later messages that takes"),
  nackDelayMs: ms(1_000, "First wait before a refused push is pushed again; doubles"),
  nackDelayMaxMs: ms(30_000, "Longest such wait"),
  deliveryLimit: count(20, "Failed deliveries after which a message is dead"),
  mailboxMessages: count(100_000, "Messages an endpoint's mailbox holds at most"),
  mailboxBytes: bytes(256 * MiB, "Bytes an endpoint's mailbox holds at most"),
  totalMessages: count(1_000_000, "Messages all mailboxes hold at most"),
  totalBytes: bytes(4 * GiB, "Bytes all mailboxes hold at most"),
  inboxMessages: count(256, "Undispatched messages the inbox takes; mail accepted before always enters"),
  inboxBytes: bytes(64 * MiB, "Bytes the inbox takes"),
  deadLetters: count(10_000, "Dead letters kept; the oldest goes first"),
  deadLetterBytes: bytes(GiB, "Bytes dead letters take; the oldest goes first"),
  freeDiskBytes: bytes(
    256 * MiB,
    "No new mail is taken while the disk has less than this free; mail that is here still leaves"
  ),
  storeWaitMs: ms(
    3_000,
    "How long a request waits for a store that fails before it is answered with 503, and a write may last before it counts as failed"
  ),
  deadLetterMs: ms(30 * 24 * hour, "How long a dead letter is kept"),
  holdBackMessages: count(10_000, "Messages taken behind one that cannot be stored"),
  holdBackBytes: bytes(64 * MiB, "Their bytes"),
  holdBackMs: ms(5_000, "First wait before held-back messages are asked for again; doubles"),
  holdBackMaxMs: ms(minute, "Longest such wait"),

  // -- conversations ----------------------------------------------------------------------------------------------------
  correlations: count(4_096, "Correlation ids kept per endpoint, sent and received each"),
  correlationMs: ms(24 * hour, "How long a correlation id is kept"),
  correlationSweepMs: ms(6 * hour, "How often old ones, and old idempotency keys, are removed"),
  closedLookupMs: ms(2_000, "How long a message waits for the platform to say whether its target is closed"),
  closedCacheMs: ms(5_000, "How long such an answer is kept"),
  closedCacheSize: count(64, "How many such answers are kept"),

  // -- network and platform ---------------------------------------------------------------------------------------------
  presenceGraceMs: ms(10 * minute, "How long presence stays reconnecting after the link is lost"),
  backoffMs: ms(1_000, "First wait before anything failed is tried again; doubles"),
  backoffMaxMs: ms(30_000, "Longest such wait"),
  healthyMs: ms(minute, "Waits start afresh after so much health"),
  unauthorizedPauseMs: ms(minute, "Pause of all posts after the platform refused the credentials"),
  platformMs: ms(15_000, "How long a call to the platform may take"),
  sendMs: ms(15_000, "How long the network may take to answer a send"),
  handshakeMs: ms(10_000, "How long opening a connection to the gateway may take"),
  registerMs: ms(15_000, "How long the gateway may take to answer the registration"),
  alreadyConnectedMs: ms(2_000, "Wait after the gateway said that this agent is already connected"),
  linkPingMs: ms(15_000, "How often a silent connection to the gateway is pinged; a second silence ends it"),
  gatewayFrameBytes: bytes(
    16 * MiB,
    "Largest frame of the gateway; a message in one of up to twice that is a dead letter, and no larger one is read"
  ),
  gapWaitMs: ms(5_000, "How long a message that came out of order waits for those before it"),
  gapRetryMs: ms(5_000, "First wait before missing messages are asked for again; doubles"),
  gapRetryMaxMs: ms(minute, "Longest such wait"),
  waitingMessages: count(
    10_000,
    "Messages of the gateway that wait for others, or for the broker to be ready, at most"
  ),
  waitingBytes: bytes(64 * MiB, "Their bytes"),
  deliveredIds: count(65_536, "Ids of delivered messages remembered against duplicates"),
  cursorMs: ms(25, "How soon after a delivery the gateway's cursor and these ids are written"),
  runtimeSessionId: sessionScope("Scope of delivery numbers, where the gateway keeps several per agent; none if empty"),
  idempotencyKeys: count(10_000, "Idempotency keys remembered per endpoint; the oldest goes first"),
  idempotencyMs: ms(24 * hour, "How long an idempotency key is remembered"),
  sendQueue: count(10_000, "Messages that wait for the network at most"),
  sendQueueBytes: bytes(256 * MiB, "Their bytes"),
  sendQueueMs: ms(24 * hour, "How long a message waits for the network before it is given up"),
  previewCodePoints: count(80, "Code points of an undispatched message the platform is shown; 0 shows none", 0),
  loopbackPending: count(
    10_000,
    "Messages the loopback network keeps undelivered for one endpoint, or the inbox, at most"
  ),
  loopbackBytes: bytes(64 * MiB, "Their bytes"),

  // -- control events and spawning --------------------------------------------------------------------------------------
  controlSilenceMs: ms(90_000, "A stream of control events that is silent for so long is opened again"),
  controlAwayMs: ms(minute, "Status warns when the stream of control events has been away for so long"),
  controlEventBytes: bytes(MiB, "Largest control event"),
  controlKeys: count(1_024, "Control events remembered against repetition, with what became of them"),
  controlAtATime: count(16, "Control events worked on at a time"),
  controlWaiting: count(256, "Control events taken from the stream and not handled yet, at most"),
  spawning: yes(true, "The owner may start sessions here by control event"),
  spawnLimit: count(3, "Sessions started within the next setting at most"),
  spawnWindowMs: ms(30_000, "Time in which so many sessions are started"),
  spawnCorrelationMs: ms(30_000, "How long a started session may take to register"),
  spawnProbeMs: ms(minute, "How long it is remembered whether a command is there"),
  spawnClaudeCommand: text("claude", "The command of claude-code sessions, a plain name"),
  spawnCommand: textOrNothing(
    "The command of custom sessions, a JSON array of command and arguments with {prompt} and {token}; none if empty",
    'a JSON array of texts such as ["my-agent","--token={token}"], the first of them the command',
    (value) => commandWords(value) !== undefined
  ),
  spawnVariables: textOrNothing(
    "Environment variables passed on to custom sessions, separated by commas; beginnings end in *",
    "names of variables, separated by commas",
    (value) => /^[\w*, ]+$/.test(value)
  ),
  spawnDirectory: textOrNothing("Working directory of started sessions; the broker's own if empty"),
  spawnBinds: yes(false, "A started session gets the undispatched message its control event names"),

  // -- IPC surface ------------------------------------------------------------------------------------------------------
  bodyBytes: bytes(MiB, "Largest request body"),
  requestBytes: bytes(
    64 * MiB,
    "All bodies of requests that are not answered yet; 16 KiB of each connection's are read beside them"
  ),
  requests: count(4_096, "Requests that are not answered yet; one of each connection is taken beside them"),
  frameBytes: bytes(MiB, "Largest frame of a plugin"),
  inboxLists: count(4, "Lists of undispatched messages that are written at a time; others wait in order"),
  inboxListMs: timer(
    30_000,
    "How long such a list waits for that, and for its client to read on; a fifteenth of it where others wait"
  ),
  jsonDepth: count(64, "Deepest nesting of JSON"),
  unreadMs: timer(30_000, "How long a client may take nothing of an answer before its connection is cut off"),
  headersMs: timer(10_000, "How long a client may take to send the headers of a request"),
  bodyMs: timer(30_000, "How long it may take to send the whole request"),
  keepAliveMs: timer(75_000, "How long an idle connection is kept"),
  sockets: count(4_096, "Connections at a time"),
  channels: count(1_024, "Plugin channels at a time"),

  // -- being found, leaving, logging ------------------------------------------------------------------------------------
  lockWaitMs: ms(10_000, "How long a start waits for a command that works on the broker's files; 0 does not", 0),
  discoveryCheckMs: ms(5_000, "How often it is looked whether the discovery file and the lock are still there"),
  leaveMs: ms(5_000, "Leaving takes no longer"),
  leavePlatformMs: ms(2_000, "How much of it waits for the platform"),
  idleExitMs: ms(0, "A broker without plugins, endpoints and anything held ends after so long; 0 means never", 0),
  logBytes: bytes(10 * MiB, "Size at which the log file is rotated"),
  logFiles: count(5, "Log files kept"),
  logKeepMs: ms(7 * 24 * hour, "How long log files of ended brokers are kept")
}

export type SettingName = keyof typeof settings

/** The values of all settings. */
export type Settings = {
  readonly [Name in SettingName]: (typeof settings)[Name] extends Setting<infer A> ? A : never
}

/** `graceMs` → `MASONS_BROKER_GRACE_MS`. */
export const environmentName = (name: SettingName): string =>
  `MASONS_BROKER_${name.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`

export const defaults: Settings = Object.fromEntries(
  Object.entries(settings).map(([name, setting]) => [name, setting.default])
) as Settings

/** Reads these settings, each under its own name. Whoever knows which are given takes `defaults` for the rest. */
export const descriptionOf = (names: ReadonlyArray<SettingName>): Config.Config<Partial<Settings>> =>
  names.reduce<Config.Config<Partial<Settings>>>(
    (all, name) =>
      Config.zipWith(all, Config.nested<unknown>(settings[name].config, name), (values, value) => ({
        ...values,
        [name]: value
      })),
    Config.succeed({})
  )

export class BrokerConfig extends Context.Tag("broker/BrokerConfig")<BrokerConfig, Settings>() {}
