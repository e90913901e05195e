package agent

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/pprof/profile"

	"github.com/beamprof/beamprof/collector/sampler"
	"github.com/beamprof/beamprof/profiles/text"
	"github.com/beamprof/beamprof/profiles/upload"
)

// How long a scraped profile is, in seconds, if it does not say, and at most.
const (
	defaultSeconds = 30
	maxSeconds     = 300
)

// scrape answers with profiles of a kind, of the next so many seconds.
func (s *server) scrape(kind string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { s.take(kind, w, r) }
}

func (s *server) take(kind string, w http.ResponseWriter, r *http.Request) {
	seconds, vms, ok := s.begin(w, r)
	if !ok {
		return
	}
	defer func() { <-s.scrapes }()
	collected := map[*vm]*collection{}
	for _, v := range vms {
		_ = v.cut() // if the VM has ended, it has nothing to collect
		collected[v] = v.collect()
	}
	defer func() {
		for v, c := range collected {
			v.finish(c)
		}
	}()
	select {
	case <-r.Context().Done():
		return
	case <-time.After(seconds):
	}
	var profiles []*profile.Profile
	for _, v := range vms {
		err := v.cut()
		if errors.Is(err, sampler.ErrTargetExited) {
			err = nil // what there was is collected
		}
		v.finish(collected[v])
		p, failed := collected[v].profile(kind)
		if err = errors.Join(err, failed); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		if p == nil {
			continue
		}
		if len(vms) > 1 {
			p.SetLabel("node", []string{v.nodeLabel()})
		}
		profiles = append(profiles, p)
	}
	s.send(w, kind, profiles)
}

// begin reads the request and takes a place among the scrapes, which the caller
// gives back. If ok is false the request has been answered.
func (s *server) begin(w http.ResponseWriter, r *http.Request) (time.Duration, []*vm, bool) {
	seconds := defaultSeconds
	if value := r.FormValue("seconds"); value != "" {
		var err error
		if seconds, err = strconv.Atoi(value); err != nil || seconds < 1 || seconds > maxSeconds {
			http.Error(w, fmt.Sprintf("seconds must be 1 to %d", maxSeconds), http.StatusBadRequest)
			return 0, nil, false
		}
	}
	vms, err := s.choose(r.FormValue("node"), r.FormValue("pid"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return 0, nil, false
	}
	select {
	case s.scrapes <- struct{}{}:
		return time.Duration(seconds) * time.Second, vms, true
	default:
		w.Header().Set("Retry-After", strconv.Itoa(seconds))
		http.Error(w, fmt.Sprintf("%d profiles are being taken already (http.max_scrapes)", cap(s.scrapes)), http.StatusServiceUnavailable)
		return 0, nil, false
	}
}

// choose returns the VMs that a request names, or all.
func (s *server) choose(node, pid string) ([]*vm, error) {
	var chosen []*vm
	var names []string
	for _, v := range s.agent.current().all() {
		short, _, _ := strings.Cut(v.info.Node, "@")
		if (node == "" || node == v.info.Node || node == short) && (pid == "" || pid == strconv.Itoa(v.info.PID)) {
			chosen = append(chosen, v)
		}
		names = append(names, v.name())
	}
	switch {
	case len(chosen) > 0:
		return chosen, nil
	case len(names) == 0:
		return nil, errors.New("no VM is being profiled")
	}
	return nil, fmt.Errorf("no VM is node %q with pid %q: there are %s", text.Clean(node), text.Clean(pid), strings.Join(names, ", "))
}

// empty says why there is no profile.
var empty = map[string]string{
	upload.KindCPU:          "the VM has ended",
	upload.KindDistribution: "messages to other nodes are not looked at: set beside.distribution to sampled or full",
	upload.KindConnections:  "no connection came or went, or none is looked at (beside.connections)",
}

// send answers with profiles, put together.
func (s *server) send(w http.ResponseWriter, kind string, profiles []*profile.Profile) {
	if len(profiles) == 0 {
		http.Error(w, empty[kind], http.StatusNotFound)
		return
	}
	merged, err := profile.Merge(profiles)
	var data []byte
	if err == nil {
		data, err = encode(merged)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", kind+".pb.gz"))
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Write(data)
}
