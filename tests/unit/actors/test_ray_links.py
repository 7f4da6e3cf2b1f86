"""The links of a partition whose Ray is lost, and lost again before the partition has turned."""

from pathlib import Path

from ensue.actors.transport.ray_links import RayLinks


def test_a_socket_that_the_partition_never_switched_to_is_closed(tmp_path: Path) -> None:
    links = RayLinks(str(tmp_path))
    links.move(str(tmp_path))
    links.move(str(tmp_path))
    assert len(list(tmp_path.iterdir())) == 2
    assert links.receive() == []
    assert [f"ipc://{folder}/lane" for folder in tmp_path.iterdir()] == [links.address]
    links.move(str(tmp_path))
    links.close()
    assert list(tmp_path.iterdir()) == []
