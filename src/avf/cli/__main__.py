from avf.cli.main import main

main()
