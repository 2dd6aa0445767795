package enforce

func probeMain() {}
