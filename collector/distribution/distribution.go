// Package distribution tells what a VM sends to other nodes and gets from them:
// bytes for each node from the kernel's own counters (sockets.go,
// connections.go), which cost the VM nothing, and messages from probes in the
// VM (messages.go): what kind, to whom, what for and who sends.
package distribution

// Total is what went between the VM and one other node.
type Total struct {
	Node            string // empty: a connection too short to be named
	Connections     int
	Unknown         int    // of these, those whose socket is not known: their bytes are missing
	SentBytes       uint64 // as the kernel counts: data, once each
	ReceivedBytes   uint64
	SentPackets     uint64 // as the VM counts: a message of more than 64 KiB is several, a tick is one
	ReceivedPackets uint64
}
