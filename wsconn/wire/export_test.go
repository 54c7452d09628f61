package wire

// NewPayload returns an empty payload of that type of message.
func NewPayload(t Type) Payload { return payloads[t]() }
