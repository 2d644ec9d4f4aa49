import { randomBytes, randomUUID } from "node:crypto"
import { PushId } from "../../services/model/Ids.js"
import { type TraceContext, traceFrom } from "../../services/model/TraceContext.js"

/** The text in one piece: as a concatenation of twenty, which it is at first, it keeps seven times the memory. */
const inOnePiece = (text: string): string => Buffer.from(text, "latin1").toString("latin1")

export const mintUuid = (): string => inOnePiece(randomUUID())

export const mintPushId = (): PushId => PushId(inOnePiece(`push_${randomUUID()}`))

export const mintTrace = (): TraceContext => traceFrom(randomBytes(24).toString("hex"))
