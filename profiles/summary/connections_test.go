package summary

import "testing"

// TestMarkDistribution: where nodes connect is no listener of clients', whatever is seen there.
func TestMarkDistribution(t *testing.T) {
	c := &Connections{Listeners: []Listener{
		{Address: "0.0.0.0:9100", Protocol: ProtocolUnknown}, {Address: "[::]:9101", Protocol: ProtocolTLS},
		{Address: "0.0.0.0:8883", Protocol: ProtocolTLS}, {Address: "127.0.0.1:1883", Protocol: ProtocolMQTT}, {Address: "10.0.0.1:44053", Protocol: ProtocolVerneMQ},
	}}
	c.MarkDistribution([]uint16{9100, 9101})
	for i, want := range []bool{true, true, false, false, true} {
		if l := c.Listeners[i]; l.OfNodes() != want {
			t.Errorf("%+v", l)
		}
	}
}
