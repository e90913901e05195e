package connections

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"unsafe"

	"github.com/beamprof/beamprof/bpf"
)

// Protocol is what is spoken on a connection, by what was said first.
type Protocol string

// The protocols. What TLS and WebSocket carry is not looked at.
const (
	ProtocolUnknown      Protocol = "unknown" // nothing was said, or it was not looked at
	ProtocolMQTT         Protocol = "mqtt"
	ProtocolTLS          Protocol = "tls"
	ProtocolWebSocket    Protocol = "websocket"
	ProtocolHTTP         Protocol = "http"
	ProtocolDistribution Protocol = "distribution" // Erlang's
	ProtocolVerneMQ      Protocol = "vernemq"      // messages between VerneMQ nodes
	ProtocolOther        Protocol = "other"
)

// Connect is the CONNECT packet of an MQTT client, and its answer.
type Connect struct {
	ClientID  string // at most bpf.MaxID bytes of it; empty if the client leaves it to the server
	IDLength  int    // bytes
	Partial   bool   // the id is not known: too much is before it
	Version   string // 3.1, 3.1.1, 5
	Clean     bool   // clean session, or clean start
	KeepAlive int    // seconds
	Connack   bool   // a CONNACK came before the connection was closed
	Code      uint8  // its return code, or reason code; 0 accepts
}

// speech is what the kernel side says of the first bytes of a direction.
type speech struct {
	bpf.Speech
}

const speechHead = int(unsafe.Offsetof(bpf.Speech{}.Bytes))

// parse reads a record. It tells whether it makes sense.
func (s *speech) parse(raw []byte) bool {
	if len(raw) < speechHead {
		return false
	}
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&s.Speech)), int(unsafe.Sizeof(s.Speech))), raw)
	return (s.Type == bpf.RecordSpoke || s.Type == bpf.RecordAnswered) && s.Length <= bpf.MaxID && len(raw) >= speechHead+int(s.Length)
}

// said returns the client id, or what else was said.
func (s *speech) said() []byte { return s.Bytes[:min(s.Length, bpf.MaxID)] }

// connect returns the CONNECT, nil if it is none.
func (s *speech) connect() *Connect {
	if s.Mqtt == 0 {
		return nil
	}
	c := &Connect{
		IDLength: int(s.IdLength), Partial: s.Whole == 0, Version: version(s.Level),
		Clean: s.Flags&cleanFlag != 0, KeepAlive: int(s.KeepAlive),
	}
	if !c.Partial {
		c.ClientID = string(s.said())
	}
	return c
}

// cleanFlag is Clean Session (3.1, 3.1.1) and Clean Start (5) of the connect flags.
const cleanFlag = 2

// version names the protocol's version by its level in CONNECT.
func version(level uint8) string {
	switch level {
	case 3:
		return "3.1"
	case 4:
		return "3.1.1"
	case 5:
		return "5"
	}
	return fmt.Sprintf("level %d", level)
}

// protocol tells what is spoken by what the client said first.
func (s *speech) protocol() Protocol {
	said := s.said()
	switch {
	case s.Mqtt != 0:
		return ProtocolMQTT
	case len(said) >= 3 && said[0] == 0x16 && said[1] == 3 && said[2] <= 4: // a handshake (RFC 8446, 5.1)
		return ProtocolTLS
	case isHTTP(said):
		return ProtocolHTTP
	case bytes.HasPrefix(said, []byte("vmq-conn")): // vmq_cluster_node.erl
		return ProtocolVerneMQ
	case len(said) >= 3 && (said[2] == 'n' || said[2] == 'N') && binary.BigEndian.Uint16(said) >= 7 && binary.BigEndian.Uint16(said) < 1024: // send_name (dist_util.erl)
		return ProtocolDistribution
	case len(said) == 0:
		return ProtocolUnknown
	}
	return ProtocolOther
}

func isHTTP(said []byte) bool {
	for _, method := range []string{"GET ", "HEAD ", "POST ", "PUT ", "DELETE ", "OPTIONS ", "PATCH ", "PRI * HT"} {
		if bytes.HasPrefix(said, []byte(method)) {
			return true
		}
	}
	return false
}

// upgraded tells whether a server agrees to change from HTTP to another
// protocol, which is WebSocket where clients of a broker ask.
func (s *speech) upgraded() bool { return bytes.HasPrefix(s.said(), []byte("HTTP/1.1 101")) }

// connack returns the code of a CONNACK: fixed header, flags, code.
func (s *speech) connack() (code uint8, ok bool) {
	said := s.said()
	if len(said) == 0 || said[0] != 0x20 {
		return 0, false
	}
	for at := 1; at < min(len(said)-2, 5); at++ {
		if said[at] < 128 { // the end of the remaining length
			return said[at+2], true
		}
	}
	return 0, false
}
