package beam

import (
	"testing"
)

func TestKind(t *testing.T) {
	for name, want := range map[string]string{
		// Groups, shards, buckets, pools: the number ends the name.
		"vmq_swc_db_meta7":             "vmq_swc_db_metaN",
		"vmq_swc_store_batcher_meta10": "vmq_swc_store_batcher_metaN",
		"vmq_queue_sup_12":             "vmq_queue_sup_N",
		"vmq_queue_sup_0":              "vmq_queue_sup_N",
		"worker7":                      "workerN",
		"MyApp.Worker3":                "MyApp.WorkerN",
		"http_8080":                    "http_N",
		"42":                           "N",
		// It stands between separators.
		"shard_3_writer":             "shard_N_writer",
		"pool-12-of-16":              "pool-N-of-N",
		"3_scheduler":                "N_scheduler",
		"conn_<0.123.0>":             "conn_<N.N.N>",
		"listener_127.0.0.1:1883":    "listener_N.N.N.N:N",
		"Registry.PIDPartition0":     "Registry.PIDPartitionN",
		"MyApp.Registry.12.Keeper":   "MyApp.Registry.N.Keeper",
		"rabbit_mqtt5_listener_1883": "rabbit_mqtt5_listener_N",
		// Words with digits in them.
		"vmq_mqtt5_fsm":       "vmq_mqtt5_fsm",
		"mqtt5_fsm":           "mqtt5_fsm",
		"gen_server2":         "gen_server2",
		"my_gen_server2":      "my_gen_server2",
		"base64":              "base64",
		"my_base64":           "my_base64",
		"xbase64":             "xbaseN",
		"shard_3_base64":      "shard_N_base64",
		"utf8_decoder":        "utf8_decoder",
		"api_v2":              "api_v2",
		"MyApp.V2":            "MyApp.V2",
		"sha256":              "sha256",
		"pg2":                 "pg2",
		"inet6_tcp":           "inet6_tcp",
		"http2":               "http2",
		"v2":                  "v2",
		"vmq_reg_trie":        "vmq_reg_trie",
		"rex":                 "rex",
		"":                    "",
		"_":                   "_",
		"zähler7":             "zählerN",
		"中12":                 "中N",
		"a1b2":                "a1bN",
		"global_group_check1": "global_group_checkN",
	} {
		if got := Kind(name); got != want {
			t.Errorf("Kind(%q) = %q, not %q", name, got, want)
		}
		if got := Kind(want); got != want {
			t.Errorf("Kind(%q) = %q: not the same again", want, got)
		}
	}
}

func FuzzKind(f *testing.F) {
	for _, seed := range []string{"vmq_swc_db_meta7", "shard_3_base64", "", "7", "gen_server2", "a_1_v2", "\xff1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		kind := Kind(name)
		if len(kind) > len(name) {
			t.Errorf("Kind(%q) = %q", name, kind)
		}
		// Two names that differ only in a number at their end are one kind.
		if Kind(name+"_17") != Kind(name+"_4") {
			t.Errorf("%q and %q are of different kinds", name+"_17", name+"_4")
		}
	})
}
