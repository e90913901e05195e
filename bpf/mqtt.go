package bpf

import (
	"fmt"

	"github.com/cilium/ebpf"
)

// Types shared with mqtt.bpf.c, as bpf2go reads them from its BTF.
type Speech = mqttSpeech // a RecordSpoke or RecordAnswered, with Length of its Bytes

// Record types of what is said first on a connection, behind those of connections.
const (
	RecordSpoke    = 6 // by the client
	RecordAnswered = 7 // by the server
)

// MaxID is how many bytes of a client id are copied.
const MaxID = 128

// PacketCounts are what the filter did.
type PacketCounts struct {
	Packets      uint64
	Timed        uint64 // of these, those whose time was taken
	Nanoseconds  uint64 // of those that were timed
	OutputFailed uint64 // records that found no room
}

// MQTTProgram is a socket filter that looks at what is said first on the
// connections to the VM's listeners. It keeps nothing for its socket.
type MQTTProgram struct {
	Filter *ebpf.Program

	objects mqttObjects
}

// LoadMQTT loads the filter. It knows the listeners that were added to the
// programs of connections, and its records go where theirs go.
func LoadMQTT(connections *ConnectionPrograms) (*MQTTProgram, error) {
	m := &MQTTProgram{}
	options := ebpf.CollectionOptions{MapReplacements: map[string]*ebpf.Map{
		"events": connections.Events, "listeners": connections.objects.Listeners,
	}}
	if err := loadMqttObjects(&m.objects, &options); err != nil {
		return nil, fmt.Errorf("loading the filter of what clients say: %w", err)
	}
	m.Filter = m.objects.ConnectionPacket
	return m, nil
}

// AddPort makes the filter look at a port of a listener.
func (m *MQTTProgram) AddPort(port uint16) error {
	word := uint32(port) / 64
	var bits uint64
	if err := m.objects.Ports.Lookup(word, &bits); err != nil {
		return fmt.Errorf("adding port %d to the filter of what clients say: %w", port, err)
	}
	if err := m.objects.Ports.Put(word, bits|1<<(port%64)); err != nil {
		return fmt.Errorf("adding port %d to the filter of what clients say: %w", port, err)
	}
	return nil
}

// Counts returns what the filter did.
func (m *MQTTProgram) Counts() (sum PacketCounts, err error) {
	var perCPU []mqttPacketCounts
	if err := m.objects.PacketCounts.Lookup(uint32(0), &perCPU); err != nil {
		return sum, fmt.Errorf("reading the counters of the filter of what clients say: %w", err)
	}
	for _, one := range perCPU {
		sum.Packets += one.Counts[0]
		sum.Timed += one.Counts[1]
		sum.Nanoseconds += one.Counts[2]
		sum.OutputFailed += one.Counts[3]
	}
	return sum, nil
}

// Close unloads the filter. A socket that it is attached to keeps it.
func (m *MQTTProgram) Close() error {
	return m.objects.Close()
}
