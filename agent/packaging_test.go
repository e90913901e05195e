package agent

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.yaml.in/yaml/v3"
)

// metricName is one in an expression, with its namespace.
var metricName = regexp.MustCompile(`\b(?:beamprof|process|go)_[a-z0-9_]+\b`)

// known returns the names and labels of all metrics that the agent can show.
func known(t *testing.T) map[string]string {
	t.Helper()
	descriptions := make(chan *prometheus.Desc, 1000)
	m := newMetrics(&Agent{})
	m.registry.Describe(descriptions)
	for _, d := range []*prometheus.Desc{
		build, targets, refusedVMs, sinkSent, sinkRetries, sinkFailures, sinkDropped, sinkReduced, sinkQueued, sinkBytes, sinkOldest, sinkSucceeded,
	} {
		descriptions <- d
	}
	close(descriptions)
	all := map[string]string{}
	form := regexp.MustCompile(`fqName: "([^"]+)".*variableLabels: \{([^}]*)\}`)
	for d := range descriptions {
		match := form.FindStringSubmatch(d.String())
		if match == nil {
			t.Fatalf("what is %s", d)
		}
		all[match[1]] = match[2]
	}
	return all
}

// checkExpression says which metrics of an expression there are not, and which
// labels they do not have.
func checkExpression(t *testing.T, where, expression string, all map[string]string) {
	t.Helper()
	names := metricName.FindAllString(expression, -1)
	if len(names) == 0 {
		t.Errorf("%s: no metric in %s", where, expression)
	}
	for _, name := range names {
		if _, ok := all[name]; !ok {
			t.Errorf("%s: there is no metric %s", where, name)
		}
	}
	// job and instance are Prometheus's own.
	for _, match := range regexp.MustCompile(`(\w+)\{([^}]*)\}`).FindAllStringSubmatch(expression, -1) {
		labels := append(strings.Split(all[match[1]], ","), "job", "instance")
		for _, matcher := range regexp.MustCompile(`(\w+)\s*[=!]~?\s*"`).FindAllStringSubmatch(match[2], -1) {
			if !slices.Contains(labels, matcher[1]) {
				t.Errorf("%s: %s has no label %s, only %v", where, match[1], matcher[1], labels)
			}
		}
	}
}

// TestDashboard: its parts have what Grafana needs, and it asks for metrics that
// there are.
func TestDashboard(t *testing.T) {
	d, all := readDashboard(t), known(t)
	variables := map[string]string{}
	for _, v := range d.Templating.List {
		variables[v.Name] = v.Type
	}
	if d.UID == "" || variables["datasource"] != "datasource" || variables["node"] != "query" || len(d.Panels) < 5 {
		t.Fatalf("uid %q, variables %v, %d panels", d.UID, variables, len(d.Panels))
	}
	if text, _ := d.Templating.List[1].Query.(string); text != "label_values(beamprof_samples_total, node)" {
		t.Errorf("nodes are those of %v", d.Templating.List[1].Query)
	}
	ids := map[int]bool{}
	for i, p := range d.Panels {
		if p.Title == "" || ids[p.ID] || p.Datasource.UID != "${datasource}" || len(p.Targets) == 0 || p.GridPos.X+p.GridPos.W > 24 || p.GridPos.H == 0 {
			t.Errorf("panel %d: %+v", i, p)
		}
		ids[p.ID] = true
		for _, other := range d.Panels[:i] {
			a, b := p.GridPos, other.GridPos
			if a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H {
				t.Errorf("%q lies over %q", p.Title, other.Title)
			}
		}
		for _, query := range p.Targets {
			if query.Datasource.UID != "${datasource}" || query.RefID == "" {
				t.Errorf("%q: %+v", p.Title, query)
			}
			for _, used := range regexp.MustCompile(`\$(\w+)`).FindAllStringSubmatch(query.Expr, -1) {
				if variables[used[1]] == "" {
					t.Errorf("%q: there is no variable %s", p.Title, used[1])
				}
			}
			checkExpression(t, p.Title, query.Expr, all)
		}
	}
}

// TestAlerts: the same for the alerts.
func TestAlerts(t *testing.T) {
	text, err := os.ReadFile("../packaging/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	all, alerts := known(t), 0
	for _, group := range file.Groups {
		for _, rule := range group.Rules {
			alerts++
			checkExpression(t, rule.Alert, rule.Expr, all)
			if d := rule.Annotations["description"]; metricName.MatchString(d) {
				checkExpression(t, rule.Alert+", description", d, all)
			}
			if rule.Labels["severity"] == "" || rule.Annotations["summary"] == "" {
				t.Errorf("%s: %+v", rule.Alert, rule)
			}
		}
	}
	if alerts < 5 {
		t.Errorf("%d alerts", alerts)
	}
}

// TestDocumentedMetrics: docs/agent.md names metrics that there are.
func TestDocumentedMetrics(t *testing.T) {
	text, err := os.ReadFile("../docs/agent.md")
	if err != nil {
		t.Fatal(err)
	}
	all := known(t)
	found := 0
	for _, name := range metricName.FindAllString(string(text), -1) {
		if name == "process_cpu" { // Pyroscope's name of a kind of profile
			continue
		}
		found++
		if _, ok := all[name]; !ok {
			t.Errorf("there is no metric %s", name)
		}
	}
	if found < 10 {
		t.Errorf("%d metrics", found)
	}
}
