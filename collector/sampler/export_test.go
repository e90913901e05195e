package sampler

// DropCodeProbe makes a session look for new code before every batch of samples,
// as it does where uprobes are not possible.
func DropCodeProbe(s *Session) error {
	if s.source.codeProbe == nil {
		return nil
	}
	err := s.source.codeProbe.Close()
	s.source.codeProbe = nil
	return err
}
