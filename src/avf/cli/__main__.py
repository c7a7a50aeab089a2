from avf.cli.command import main

main()
