#include "tools/cli/command.h"

int main(int argc, char** argv) { return rankine::RunCli(argc, argv); }
