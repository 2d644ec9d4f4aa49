import type { ChannelId, PushId } from "../../services/model/Ids.js"
import type { MailboxState } from "../../services/model/MailboxState.js"

/** Which mailboxes deliver over a channel, and what is in flight there. */
export class Outlets<Mailbox extends { readonly state: MailboxState }> {
  private readonly byChannel = new Map<ChannelId, Set<Mailbox>>()
  private readonly inFlight = new Map<PushId, { readonly mailbox: Mailbox; readonly channel: ChannelId }>()

  /** The mailbox delivers over the channel. */
  bind(mailbox: Mailbox, channel: ChannelId): void {
    let bound = this.byChannel.get(channel)
    if (bound === undefined) {
      bound = new Set()
      this.byChannel.set(channel, bound)
    }
    bound.add(mailbox)
  }

  /** Nothing comes over the mailbox's channel any more. */
  unbind(mailbox: Mailbox): void {
    const outlet = mailbox.state.deliversOver
    if (outlet === undefined) return
    const bound = this.byChannel.get(outlet.channel)
    bound?.delete(mailbox)
    if (bound?.size === 0) this.byChannel.delete(outlet.channel)
    for (const pushId of mailbox.state.pushIds()) this.inFlight.delete(pushId)
  }

  boundTo(channel: ChannelId): Iterable<Mailbox> {
    return this.byChannel.get(channel) ?? []
  }

  pushed(mailbox: Mailbox, channel: ChannelId, push: PushId): void {
    this.inFlight.set(push, { mailbox, channel })
  }

  /** The plugin answered the push. `undefined` when nothing of that id is in flight on that channel. */
  land(channel: ChannelId, push: PushId): Mailbox | undefined {
    const flight = this.inFlight.get(push)
    if (flight?.channel !== channel) return undefined
    this.inFlight.delete(push)
    return flight.mailbox
  }
}
