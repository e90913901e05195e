package beam

// MFA returns the name of the function whose ErtsCodeMFA is at an address, as
// Process.current points to: "ets:lookup/2". It lies in code, which stays.
func (t *Target) MFA(addr uint64) (name string, ok bool) {
	if addr == 0 {
		return "", false
	}
	l := &t.Layout.MFA
	data := make([]byte, l.Size)
	if t.Memory.Read(data, addr) != nil {
		return "", false
	}
	return t.name(mfa{headWord(data, l.Module), headWord(data, l.Function), headWord(data, l.Arity)})
}
