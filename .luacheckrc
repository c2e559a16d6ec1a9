std = "luajit"
max_line_length = 140
codes = true
-- what the policy VM does not have is not there for its scripts either (core/script/sandbox.c)
files["lua"] = { not_globals = { "io", "debug", "package", "ffi", "jit", "load", "loadstring", "loadfile", "dofile",
                                 "collectgarbage", "getfenv", "setfenv", "newproxy", "print" } }
files["tests/lua"] = { std = "+busted" }
exclude_files = { "build" }
