package sampler

// DropCodeProbe makes a session look for new code before every batch of samples,
// as it does where uprobes are not possible.
func DropCodeProbe(s *Session) error {
	if s.codeProbe == nil {
		return nil
	}
	err := s.codeProbe.Close()
	s.codeProbe = nil
	return err
}
